"""`bonesoup diagnose` on a real run: short runs are trained once, nothing of the pipeline changes."""

import json

import pytest
from projects import wait_for

pytestmark = pytest.mark.slow


def test_a_diagnosis_of_a_finished_run_repeats_without_training(project):
    before = project.files("out")
    first = project.run("bonesoup", "diagnose", "--samples", "24", "--out", "here/diagnosis.json")
    assert first.status == 0, first.output
    assert "from specialist-2 step 1/1" in first.output
    assert "Bone Soup is predicted to" in first.output
    document = json.loads((project.folder / "here/diagnosis.json").read_text())
    assert document["prompts"] == 24
    assert document["rows"] == [pytest.approx([0.7, 0.3]), pytest.approx([0.3, 0.7])]
    for unit in ("gold", "reward"):
        assert document["prediction"][unit]["low"] <= document["prediction"][unit]["high"]
    assert [run["start"] for run in document["short_runs"]] == [
        "the even Rewarded Soup",
        "specialist-1",
        "specialist-2",
    ]
    again = project.run("bonesoup", "diagnose", "--samples", "24", "--out", "here/again.json")
    assert "step 1/1" not in again.output
    assert json.loads((project.folder / "here/again.json").read_text()) == document
    assert project.files("out") == before
    assert project.repro().ran == []


def test_a_diagnosis_that_is_killed_while_it_samples_resumes_to_the_same_findings(project, tmp_path):
    command = ["bonesoup", "diagnose", "--samples", "64", "--out", "here/diagnosis.json"]
    whole = project.run(*command)
    assert whole.status == 0, whole.output
    document = project.folder / "here/diagnosis.json"
    unbroken = document.read_bytes()
    document.unlink()
    parts = project.folder / "scratch/fronts"
    process = project.start(*command, log=tmp_path / "log")
    wait_for(lambda: len(list(parts.glob("*/part-*.json"))) > 1, process)
    process.kill()
    process.wait(60)
    assert not document.exists()
    again = project.run(*command)
    assert "front@diagnose: resuming after" in again.output
    assert document.read_bytes() == unbroken
    assert not list(parts.glob("*"))


def test_it_needs_the_specialists_only(untouched):
    refused = untouched.run("bonesoup", "diagnose")
    assert refused.status == 1
    assert "`bonesoup run policy@specialists`" in refused.output
    assert "Traceback" not in refused.output
    made = untouched.run("bonesoup", "run", "policy@specialists")
    assert made.status == 0, made.output
    done = untouched.run("bonesoup", "diagnose", "--samples", "24")
    assert done.status == 0, done.output
    assert (untouched.folder / "var/diagnosis.json").is_file()
    assert not (untouched.folder / "out/policies/backbones").exists()


def test_specialists_of_other_settings_are_not_diagnosed(project):
    project.set(basis__beta=0.8)
    refused = project.run("bonesoup", "diagnose")
    assert refused.status == 1
    assert "seek" in refused.output
    assert "first `bonesoup run policy@specialists`" in refused.output
    project.set(basis__beta=0.7, rl__kl=0.3)
    assert "(policy@specialists would run)" in " ".join(project.run("bonesoup", "diagnose").output.split())


def test_settings_without_specialists_are_refused_by_name(project):
    project.set(methods=["bone"], policies={"backbones": {"slots": ["backbone-1", "backbone-2"]}}, oracles=[])
    refused = project.run("bonesoup", "diagnose")
    assert refused.status == 1
    assert "add `rewarded` to methods" in refused.output
