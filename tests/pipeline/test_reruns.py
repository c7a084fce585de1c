"""`dvc repro` runs again what a changed value or module affects, and nothing else."""

from pathlib import Path

import pytest
from ruamel.yaml import YAML

pytestmark = pytest.mark.slow


def test_nothing_changed_runs_nothing(project):
    again = project.repro()
    assert (again.status, again.ran, again.restored) == (0, [], [])


def test_beta_retrains_the_backbones_only_and_going_back_trains_nothing(project):
    before = project.files("out/policies")
    project.set(basis__beta=0.8)
    there = project.repro()
    assert there.status == 0, there.output
    ran = ["seek", "basis", "policy@backbones", "diagnose", "soup", "scale@bone", "choose", "front@bone", "report"]
    ran.append("register")
    assert sorted(there.ran) == sorted(ran)
    assert there.restored == []
    changed = {name for name, content in project.files("out/policies").items() if content != before[name]}
    assert {name.split("/")[0] for name in changed} == {"backbones"}

    project.set(basis__beta=0.7)
    back = project.repro()
    assert back.status == 0, back.output
    # What a store holds is not in the cache: register looks again, and trains nothing.
    assert back.ran == ["register"]
    assert sorted(back.restored) == sorted(set(ran) - {"register"})
    assert project.files("out/policies") == before


def test_a_changed_threshold_reruns_its_gate_only(project):
    project.set(gates__data__max_quarantined=0.02)
    # params.yaml as a whole is in the report and in what is registered.
    assert project.repro("soup").ran == ["gate@data"]
    project.set(gates__reward__min_accuracy=0.2)
    assert project.repro("soup").ran == ["gate@reward"]


def test_a_gate_that_fails_stops_the_pipeline_and_keeps_the_measurement(project):
    measured = project.files("out/rewards")
    project.set(gates__reward={"min_accuracy": 0.99, "on_failure": "fail"})
    failed = project.run("bonesoup", "run")
    assert failed.status == 1
    assert "gates.reward.min_accuracy = 0.99" in failed.output
    assert "reward helpful: held-out accuracy" in failed.output
    assert "Traceback" not in failed.output
    assert project.files("out/rewards") == measured


def test_bootstrap_resamples_without_generating(project):
    project.set(evaluation__bootstrap=60)
    again = project.repro().ran
    # Those that choose by intervals look again, and find that there is nothing to choose.
    choosing = {"seek", "diagnose", "choose", *(f"scale@{method}" for method in ("sft", "rewarded", "bone", "oracle"))}
    assert set(again) == {*choosing, "report", "register"}


@pytest.mark.parametrize("module", ["data/words.py", "method/preferences.py"])
def test_an_edited_module_reruns_exactly_the_stages_that_import_it(project, module):
    """The edit is a comment, so the stages must write the same bytes."""
    path = f"src/bonesoup/{module}"
    with open(project.folder / path, "a") as source:
        source.write("\n# A comment.\n")
    again = project.repro()
    assert again.status == 0, again.output
    assert sorted(again.ran) == sorted(stages_with(project.folder, path))


def stages_with(folder: Path, path: str) -> list[str]:
    """List the stages, foreach groups expanded, that have a file among their deps."""
    document = YAML(typ="safe").load(folder / "dvc.yaml")
    settings = YAML(typ="safe").load(folder / "params.yaml")
    names = []
    for name, stage in document["stages"].items():
        groups = stage.get("foreach")
        if isinstance(groups, str):
            keys, groups = groups.strip("${}").split("."), settings
            for key in keys:
                groups = groups[key]
        if path in stage.get("do", stage)["deps"]:
            names += [name] if groups is None else [f"{name}@{group}" for group in groups]
    return names


def test_the_user_reads_progress_and_no_noise(finished):
    """`bonesoup run` numbers its stages, ends with the table, and hides what DVC says to its own users."""
    output = finished.result.output
    assert "[1/" in output
    assert "Report: " in output
    assert "bonesoup generate --preference" in output
    for noise in ("git add", "autostage", "dvc push", "Warning", "warning:", "lock file", "Traceback"):
        assert noise not in output
