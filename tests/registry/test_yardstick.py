"""A yardstick matches its digest, survives the pipeline that made it, and changes only on purpose."""

import json
import shutil

import pytest
from mlflow import MlflowClient
from ruamel.yaml import YAML
from typer.testing import CliRunner

from bonesoup.cli.main import app
from bonesoup.files import read_json, write_json, write_jsonl
from bonesoup.registry import lineage, yardstick


@pytest.fixture
def settings(project) -> dict:
    return YAML(typ="safe").load(project.settings_text)


@pytest.fixture
def copy(project, tmp_path):
    """Copy the project's files, to be changed."""
    return shutil.copytree(project.root, tmp_path / "copy", ignore=shutil.ignore_patterns("var", ".git"))


def test_it_holds_the_test_prompts_judges_scale_grid_and_statistics(project, settings):
    measure = yardstick.of_pipeline(project.root, settings)
    assert [row["id"] for row in measure.prompts] == [f"p{i}" for i in range(8)]
    assert set(measure.judges) == {"helpful", "harmless"}
    assert measure.normaliser["gold"]["std"] == [1.0, 1.0]
    assert (measure.parts, measure.interior, measure.seed) == (2, 0.2, 0)
    assert (measure.bootstrap, measure.confidence) == (200, 0.95)
    assert measure.generation == {"temperature": 1.0, "max_new_tokens": 16}
    settings["evaluation"]["samples"] = 3
    assert len(yardstick.of_pipeline(project.root, settings).prompts) == 3


def test_what_is_not_part_of_it_does_not_change_it(copy, settings):
    before = yardstick.of_pipeline(copy, settings).digest
    settings["rl"]["steps"] += 1
    settings["evaluation"]["batch"] = 3
    write_json(copy / "out/soups/bone.json", {})
    assert yardstick.of_pipeline(copy, settings).digest == before


@pytest.mark.parametrize("what", ["prompt", "judge", "scale", "words", "grid", "noise"])
def test_every_part_changes_the_digest(copy, settings, what):
    before = yardstick.of_pipeline(copy, settings).digest
    out = copy / "out"
    if what == "prompt":
        rows = [json.loads(line) for line in (out / "data/prompts.jsonl").read_text().splitlines()]
        rows[3]["prompt"][0]["content"] += " simply,"
        write_jsonl(out / "data/prompts.jsonl", rows)
    elif what == "judge":
        write_json(out / "rewards/helpful/model/config.json", {"changed": True})
    elif what == "scale":
        write_json(out / "normaliser.json", read_json(out / "normaliser.json") | {"std": [2.0, 1.0]})
    elif what == "words":
        tables = copy / settings["data"]["path"]
        tables.write_text(tables.read_text() + "\n# another\n")
    elif what == "grid":
        settings["evaluation"]["parts"] = 4
    else:
        settings["seed"] = 7
    assert yardstick.of_pipeline(copy, settings).digest != before


def test_written_and_read_it_is_the_same_without_the_pipeline(copy, settings, tmp_path):
    measure = yardstick.of_pipeline(copy, settings)
    yardstick.write(measure, copy, tmp_path / "kept")
    shutil.rmtree(copy)
    kept = yardstick.read(tmp_path / "kept")
    assert kept == measure
    assert kept.digest == measure.digest
    assert (kept.folders["helpful"] / "model/model.safetensors").is_file()
    assert kept.tables.is_file()


def test_a_judge_named_by_a_local_folder_is_kept_too(copy, settings, tmp_path):
    """The pipeline knows such a model by its path alone, where the files may change."""
    shutil.move(copy / "out/rewards/helpful/model", copy / "judge")
    spec = {
        "objective": "helpful",
        "kind": "pretrained",
        "model": "judge",
        "revision": None,
        "input": "chat",
        "logit": 0,
    }
    write_json(copy / "out/rewards/helpful/reward.json", spec)
    measure = yardstick.of_pipeline(copy, settings)
    yardstick.write(measure, copy, tmp_path / "kept")
    assert yardstick.read(tmp_path / "kept").digest == measure.digest
    assert (tmp_path / "kept/judges/helpful/model/model.safetensors").is_file()
    write_json(copy / "judge/config.json", {"changed": True})
    assert yardstick.of_pipeline(copy, settings).digest != measure.digest


@pytest.mark.parametrize(
    ("file", "message"),
    [("judges/harmless/model/config.json", "judge harmless has digest"), ("words.yaml", "word tables have digest")],
)
def test_a_changed_file_is_found(project, settings, tmp_path, file, message):
    yardstick.write(yardstick.of_pipeline(project.root, settings), project.root, tmp_path / "kept")
    with open(tmp_path / "kept" / file, "a") as out:
        out.write("\n")
    with pytest.raises(ValueError, match=message):
        yardstick.read(tmp_path / "kept")


@pytest.mark.parametrize(
    "missing", ["out/data/prompts.jsonl", "out/normaliser.json", "out/rewards/helpful/reward.json"]
)
def test_a_pipeline_that_is_not_that_far_has_none(copy, settings, missing):
    (copy / missing).unlink()
    assert yardstick.of_pipeline(copy, settings) is None


def test_a_report_of_other_settings_is_told_from_one_of_its_own(project, settings):
    report = read_json(project.root / "out/metrics/report.json")
    assert yardstick.difference(yardstick.of_pipeline(project.root, settings), report) is None
    settings["evaluation"]["interior"] = 0.3
    other = yardstick.of_pipeline(project.root, settings)
    assert yardstick.difference(other, report) == "interior was 0.2 and is 0.3"


def test_the_first_registration_adopts_its_own(registered, project, settings):
    _, lines, _ = registered
    client = MlflowClient()
    held = client.get_model_version_by_alias("bonesoup-yardstick", "current")
    digest = yardstick.of_pipeline(project.root, settings).digest
    assert held.tags["digest"] == digest
    assert held.tags["reason"] == "the first yardstick, adopted at the first registration"
    assert f"yardstick {digest} adopted: the first of bonesoup" in lines
    assert client.get_model_version("bonesoup-soup", "1").tags["yardstick"] == digest


def test_a_later_registration_leaves_the_current_one_alone(league, tmp_path):
    client = league.store.client
    held = yardstick.current(league.store, "league")
    assert [v.version for v in client.search_model_versions("name='league-yardstick'")] == [1]
    tags = [client.get_model_version(league.model, version).tags for version in ("1", "2", "3", "4")]
    assert [tag["yardstick"] == held.tags["digest"] for tag in tags] == [True, True, True, False]
    assert yardstick.load(league.store, "league", tmp_path).digest == held.tags["digest"]


def test_adopting_another_is_recorded_and_going_back_makes_no_third(league, project, settings):
    store, client = league.store, league.store.client
    before = yardstick.current(store, "league")
    code = lineage.code(project.root)
    settings["evaluation"]["confidence"] = 0.9
    other = yardstick.of_pipeline(project.root, settings)
    try:
        version, changed = yardstick.adopt(store, "league", project.root, other, "narrower intervals", code)
        assert changed
        assert (version.tags["reason"], version.tags["git_commit"]) == ("narrower intervals", code.commit)
        assert yardstick.current(store, "league").version == version.version == 2
        (file,) = client.list_artifacts(version.run_id, "adoptions")
        assert yardstick.adopt(store, "league", project.root, other, "again", code) == (version, False)
    finally:
        settings["evaluation"]["confidence"] = 0.95
        measure = yardstick.of_pipeline(project.root, settings)
        back, changed = yardstick.adopt(store, "league", project.root, measure, "back", code)
    assert changed
    assert back.version == before.version
    assert len(client.search_model_versions("name='league-yardstick'")) == 2


def test_the_command_shows_it_and_asks_for_a_reason(league, monkeypatch):
    monkeypatch.chdir(league.root)
    runner = CliRunner()
    done = runner.invoke(app, ["yardstick", "--json"])
    assert done.exit_code == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["version"] == "league-yardstick/1"
    assert answer["digest"] == yardstick.current(league.store, "league").tags["digest"]
    assert answer["prompts"] == 8
    done = runner.invoke(app, ["yardstick", "--adopt"])
    assert done.exit_code == 2
    assert "needs a --reason" in done.stderr
    done = runner.invoke(app, ["yardstick", "--adopt", "--reason", "the same"])
    assert done.exit_code == 0
    assert "league-yardstick/1 is current already" in done.stdout
