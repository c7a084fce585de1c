"""A study's file: the cells it defines, and the mistakes in it that are reported."""

import os

import pytest

from bonesoup.files import md5
from bonesoup.paths import STUDIES
from bonesoup.study import cells

ROOT = cells.STUDIES.absolute().parent


def test_every_setting_runs_with_every_seed_a_seed_at_a_time(plan):
    listed = cells.cells(cells.read("small"), [], [])
    assert [cell.name for cell in listed] == ["default-3", "kl-low-3", "three-3", "default-5", "kl-low-5", "three-5"]


def test_a_cell_has_the_profile_the_common_changes_its_own_and_its_seed(plan):
    default, low, three = cells.cells(cells.read("small"), [7], [])
    assert (default.document()["seed"], default.document()["rl"]["kl"]) == (7, 0.1)
    assert (low.document()["rl"]["kl"], low.document()["evaluation"]["samples"]) == (0.03, 64)
    assert three.document()["objectives"] == ["helpful", "harmless", "humor"]
    assert three.document()["evaluation"]["samples"] == 32


def test_seeds_and_settings_can_be_chosen(plan):
    listed = cells.cells(cells.read("small"), [9, 1], ["kl-low"])
    assert [cell.name for cell in listed] == ["kl-low-9", "kl-low-1"]


@pytest.mark.parametrize(
    ("seeds", "settings", "message"),
    [
        ([], [""], "no setting ''; the study has: default, kl-low, three"),
        ([], ["kl-low", "heat"], "no setting 'heat'; the study has: default, kl-low, three"),
        ([1, 1], [], "seeds 1, 1: one stands there twice"),
    ],
)
def test_a_choice_that_the_study_lacks_is_refused(plan, seeds, settings, message):
    with pytest.raises(ValueError, match=message):
        cells.cells(cells.read("small"), seeds, settings)


def test_every_wrong_setting_is_named_before_anything_runs(plan):
    plan.write_text(plan.read_text() + "  typo: {rl.kll: 1}\n  beta: {basis.beta: 7}\n")
    with pytest.raises(ValueError, match=r"(?s)setting typo: no setting 'rl.kll'.*setting beta: .*beta") as error:
        cells.cells(cells.read("small"), [], [])
    assert "kl-low" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seeds: [1]\nsettings: {a: {}}\n", "profile"),
        ("profile: quick\nseeds: []\nsettings: {a: {}}\n", "seeds"),
        ("profile: quick\nseeds: [-1]\nsettings: {a: {}}\n", "seeds.0"),
        ("profile: quick\nseeds: [1]\nsettings: {a/b: {}}\n", "settings"),
        ("profile: quick\nseeds: [1]\nsettings: {}\n", "settings"),
        ("profile: quick\nseeds: [1]\nsettings: {a: {}}\nextra: 1\n", "extra"),
        ("- a\n", "the file"),
    ],
)
def test_a_file_that_is_no_study_is_refused_by_its_key(plan, text, message):
    plan.write_text(text)
    with pytest.raises(ValueError, match=rf"small.yaml is not a study:\n  - {message}"):
        cells.read("small")


def test_a_study_that_is_not_there_is_refused_with_those_that_are(plan):
    with pytest.raises(ValueError, match="no study 'big'.*there are: small"):
        cells.read("big")


@pytest.mark.parametrize(
    "name", [path.stem for path in sorted((ROOT / "studies").glob("*.yaml")) if "words" not in path.stem]
)
def test_every_study_of_the_project_is_valid(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    plan = cells.read(name)
    assert len(cells.cells(plan, [], [])) == len(plan.seeds) * len(plan.settings)


def test_nothing_is_cleaned_while_a_study_runs(tmp_path):
    from bonesoup.locks import exclusive
    from bonesoup.upkeep.leftovers import at_work

    with exclusive(tmp_path / STUDIES / "small/lock"):
        assert at_work(tmp_path) == [f"process {os.getpid()} holds {tmp_path / 'var/study/small/lock'}"]
    assert at_work(tmp_path) == []


def test_other_content_in_a_folder_of_data_makes_another_cell(tmp_path):
    """The digest is the one that DVC records of a folder in dvc.lock."""
    from dvc_data.hashfile.build import build
    from dvc_data.hashfile.db import HashFileDB
    from dvc_objects.fs.local import LocalFileSystem

    folder = tmp_path / "data"
    (folder / "b").mkdir(parents=True)
    (folder / "b/x.jsonl").write_text("1\n")
    (folder / "a é.jsonl").write_text("2\n")
    system = LocalFileSystem()
    store = HashFileDB(system, str(tmp_path / "cache"))
    _, _, listed = build(store, str(folder), system, "md5")
    document = {"data": {"path": str(folder), "files": None}, "rewards": {}, "model": {}, "rl": {}, "basis": {}}
    document["register"] = {}
    before = cells.identity(document, md5(folder))
    assert before["data"] == listed.hash_info.value
    (folder / "b/x.jsonl").write_text("3\n")
    assert not cells.alike(before, cells.identity(document, md5(folder)))
