"""A study resumes when killed at any point, repeats no finished cell, leaves nothing running."""

import os
import signal

import psutil
import pytest
from projects import TINY, alive, wait_for

from bonesoup.files import read_json, read_jsonl
from bonesoup.settings.profiles import yaml

pytestmark = pytest.mark.slow
# More steps than the default's, so that there is a middle to be killed in; only backbones depend on beta.
STEPS = 24


@pytest.fixture
def study(project, tmp_path):
    """Add a study to a finished pipeline: the default, a cell that fails, and one with other backbones."""
    common = {key.replace("__", "."): value for key, value in TINY.items()}
    settings = {
        "default": {},
        "broken": {"gates.reward": {"min_accuracy": 1.0, "on_failure": "fail"}},
        "beta": {"basis.beta": 0.9, "rl.steps": STEPS, "methods": ["sft", "rewarded", "bone"], "oracles": []},
    }
    settings["beta"]["policies"] = {
        "specialists": {"slots": ["specialist-1", "specialist-2"]},
        "backbones": {"slots": ["backbone-1", "backbone-2"]},
    }
    path = project.folder / "studies/small.yaml"
    with open(path, "w") as out:
        yaml.dump({"profile": "quick", "common": common, "seeds": [0], "settings": settings}, out)
    project.run("git", "add", "--all")
    assert project.run("git", "commit", "--quiet", "--message", "a study").status == 0
    return project


def family(process) -> list[psutil.Process]:
    return [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]


def interrupted(project, happened, how: int, log) -> None:
    """Start the study, signal it once something happened, and see that nothing outlives it."""
    process = project.start("bonesoup", "study", "small", log=log)
    wait_for(happened, process, seconds=300)
    processes = family(process)
    assert any("stage" in p.cmdline() for p in processes)
    os.kill(process.pid, how)
    process.wait(60)
    psutil.wait_procs(processes, timeout=10)
    assert not alive(processes)


def test_a_study_goes_on_after_ctrl_c_and_kill(study, tmp_path):
    results = study.folder / "studies/results/small"
    clone = study.folder / "var/study/small/beta-0"

    def training() -> bool:
        return bool(list(clone.glob("scratch/policies/*/checkpoint-*.pt")))

    def second_group() -> bool:
        ended = clone / "var/stages.jsonl"
        return ended.is_file() and "policy@specialists" in ended.read_text() and training()

    interrupted(study, training, signal.SIGINT, tmp_path / "1")
    assert [path.name for path in results.iterdir()] == ["default-0.json"]
    finished = (results / "default-0.json").read_bytes()
    written = (results / "default-0.json").stat().st_mtime_ns
    # The run cache of the pipeline gave the rest: tidying is never restored, and the report reads params.yaml as text.
    assert set(read_json(results / "default-0.json")["stages"]) == {"tidy", "report"}

    interrupted(study, second_group, signal.SIGKILL, tmp_path / "2")
    ended = read_jsonl(clone / "var/stages.jsonl")
    before = {row["stage"]: row["seconds"] for row in ended}
    assert len(before) == len(ended), "a stage that had finished before Ctrl-C ran again"
    result = study.run("bonesoup", "study", "small")
    assert result.status == 1
    assert result.output.count("broken-0 failed: gate@reward failed:\n") == 1
    assert result.output.rstrip().endswith("1 of 3 cells failed, for the reasons above: broken-0")
    assert "min_accuracy" in result.output
    assert "2 of 3 cells are done." in result.output
    assert "default-0" not in result.output
    assert "beta-0 done" in result.output
    assert not clone.exists()
    assert (clone.with_name("broken-0") / "out/gates").is_dir(), "a failed cell can be looked into"
    assert (results / "default-0.json").read_bytes() == finished
    assert (results / "default-0.json").stat().st_mtime_ns == written
    cell = read_json(results / "beta-0.json")
    assert {"policy@specialists", "policy@backbones", "front@bone", "report"} <= set(cell["stages"])
    # What was finished before a kill was not run again after it.
    assert before.keys() >= {"policy@specialists"}
    assert {stage: cell["stages"][stage]["seconds"] for stage in before} == before
    assert cell["commit"] == study.run("git", "rev-parse", "HEAD").output.strip()
    assert set(cell["grids"]["full_grid"]["gold"]["methods"]) == {"sft", "rewarded", "bone"}

    shown = study.run("bonesoup", "study", "small", "--show")
    assert shown.status == 0
    assert "| default | Bone Soup | 1 |" in shown.output
    assert "| beta | Bone Soup | 1 |" in shown.output

    # The study changes a setting. The result of the old one does not stand for it.
    path = study.folder / "studies/small.yaml"
    plan = yaml.load(path)
    plan["settings"]["default"]["evaluation.bootstrap"] = 77
    with open(path, "w") as out:
        yaml.dump(plan, out)
    refused = study.run("bonesoup", "study", "small", "--settings", "default")
    assert refused.status == 1
    assert "default-0.json was made with other settings or data" in refused.output
    assert (
        "Left out, of other settings than the study has now: default-0."
        in study.run("bonesoup", "study", "small", "--show").output
    )
    (results / "default-0.json").unlink()
    assert "1 of 1 cells are done." in study.run("bonesoup", "study", "small", "--settings", "default").output
    assert read_json(results / "default-0.json")["bootstrap"] == 77


def test_a_study_whose_time_is_over_says_what_is_left(study):
    result = study.run("bonesoup", "study", "small", "--settings", "beta", "--time-limit", "0")
    assert result.status == 0
    assert "Left: beta-0. Run the same command again to continue." in result.output
    assert not (study.folder / "studies/results/small").exists()
