"""dvc.yaml read without DVC says what DVC says; leftovers are what it no longer makes."""

import json
import shutil
from pathlib import Path

import pytest
from dvc.repo import Repo
from pinned import made_up

from bonesoup.settings import profiles
from bonesoup.settings.schema import Settings
from bonesoup.stages import tidy as tidying
from bonesoup.workspace import graph
from bonesoup.workspace.declared import check_settings, leftovers, stages

ROOT = Path(__file__).parents[2]
PROFILES = sorted(path.stem for path in (ROOT / "profiles").glob("*.yaml"))


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Make a folder with dvc.yaml and params.yaml, and a function that writes another profile into it."""
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    (tmp_path / "profiles").symlink_to(ROOT / "profiles")
    (tmp_path / "src").symlink_to(ROOT / "src")
    monkeypatch.chdir(tmp_path)

    def write(name: str, **changes) -> Path:
        changes = {key.replace("__", "."): value for key, value in changes.items()}
        profiles.write(name, changes=made_up(name) | changes)
        return tmp_path

    return write


@pytest.mark.parametrize("name", PROFILES)
def test_stages_and_what_they_make_are_those_of_dvc(project, name):
    root = project(name)
    (root / ".dvc").mkdir()
    (root / ".dvc/config").write_text("[core]\n    no_scm = true\n")
    declared = stages(root).values()
    with Repo(str(root)) as repo:
        dvc = [stage for stage in repo.index.stages if hasattr(stage, "name")]
        assert sorted(name for stage in declared for name in stage.names) == sorted(stage.name for stage in dvc)
        assert {path for stage in declared for path in stage.makes()} == {
            Path(out.def_path) for stage in dvc for out in stage.outs
        }


def test_settings_that_a_stage_reads_and_the_file_lacks_are_named_before_anything_runs(project):
    root = project("embedded")
    check_settings(root)
    path = root / "params.yaml"
    path.write_text(
        path.read_text().replace(", distribution: interior", "").replace(" samples: 256, merged", " merged")
    )
    fault = "params.yaml has no basis.distribution, register.samples, which stages read: `bonesoup profile --fill`"
    with pytest.raises(ValueError, match=fault):
        check_settings(root)
    profiles.write(None)
    check_settings(root)


def make(root: Path, *names: str) -> None:
    for name in names:
        (root / "out" / name).mkdir(parents=True)


def test_what_the_settings_no_longer_name_is_left_over_and_nothing_else(project):
    root = project("embedded")
    make(
        root, "policies/backbones", "rewards/helpful", "fronts/bone", "metrics/reward-helpful.json", "metrics/sft.json"
    )
    make(root, "probes/plan.json", "fronts/.bone.12.tmp")
    stale = [
        "fronts/other",
        "metrics/reward-humor.json",
        "policies/group",
        "probes/0.8",
        "rewards/humor",
        "soups/mod.json",
    ]
    make(root, *stale)
    assert leftovers(root) == [root / "out" / name for name in stale]


def test_another_beta_or_method_leaves_its_results_over(project):
    root = project("embedded", seek__betas=[0.6, 0.7])
    make(root, "probes/0.6", "probes/0.7", "fronts/oracle", "policies/oracles")
    assert leftovers(root) == []
    profiles.write(None, changes={"seek.betas": [], "methods": ["sft", "bone"]})
    assert leftovers(root) == [
        root / "out" / name for name in ("fronts/oracle", "policies/oracles", "probes/0.6", "probes/0.7")
    ]


def test_tidying_removes_them_and_leaves_the_same_word_each_time(project):
    root = project("embedded")
    make(root, "rewards/helpful", "rewards/humor")
    tidying.run(Settings.model_construct(), None)
    first = (root / "out/tidy.json").read_bytes()
    assert [path.name for path in (root / "out/rewards").iterdir()] == ["helpful"]
    tidying.run(Settings.model_construct(), None)
    assert (root / "out/tidy.json").read_bytes() == first
    assert json.loads(first) == {}


def test_whatever_reads_a_folder_of_many_results_waits_for_the_tidying():
    """Else it would depend on leftovers, and on their removal."""
    declared = stages(ROOT)
    many = {path.parent for stage in declared.values() if stage.keys for path in stage.makes()}
    readers = [stage for stage in declared.values() if many & set(map(Path, stage.deps))]
    assert {"normalise", "soup", "report"} <= {stage.name for stage in readers}
    plan = graph.read(ROOT)
    for name in (name for stage in readers for name in stage.names):
        assert "tidy" in plan.upstream([name]), name


def test_the_tidying_depends_on_every_key():
    text = (ROOT / "dvc.yaml").read_text()
    over = {line.split("${")[1].rstrip("}") for line in text.splitlines() if "foreach: ${" in line}
    assert over == set(stages(ROOT)["tidy"].params)
