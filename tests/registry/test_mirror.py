"""Runs are what DVC records of the stages: no list of stages, settings or results is kept by hand."""

import shutil

import pytest
from miniature import REPOSITORY, commit_results
from ruamel.yaml import YAML

from bonesoup.registry.mirror import StageRun, stage_runs

STAGES = YAML(typ="safe").load((REPOSITORY / "dvc.yaml").read_text())["stages"]


@pytest.fixture(scope="module")
def mirrored(project) -> list[StageRun]:
    finished, missing = stage_runs(project.root)
    assert missing == []
    return finished


@pytest.fixture
def copy(project, tmp_path):
    return shutil.copytree(project.root, tmp_path / "copy", ignore=shutil.ignore_patterns("var"))


def test_every_stage_that_dvc_yaml_names_is_mirrored(mirrored):
    # Without betas to compare there are no probes; `register` is the stage that sends the others.
    assert {run.stage for run in mirrored} == STAGES.keys() - {"register", "probe"}


@pytest.mark.parametrize("stage", STAGES)
def test_every_setting_a_stage_reads_is_mirrored(mirrored, stage):
    document = STAGES[stage].get("do", STAGES[stage])
    for run in mirrored:
        if run.stage != stage:
            continue
        for read in document.get("params", []):
            name = read.replace("${key}", run.key).replace("${item}", run.key)
            assert any(key == name or key.startswith(f"{name}.") for key in run.params), f"{run.name} lacks {name}"


def test_settings_are_those_the_stage_ran_with(copy, mirrored):
    params = copy / "params.yaml"
    params.write_text(params.read_text().replace("temperature: 1.0", "temperature: 0.5"))
    now, _ = stage_runs(copy)
    assert [run.fingerprint for run in now] == [run.fingerprint for run in mirrored]
    assert next(run for run in now if run.stage == "normalise").params["generation.temperature"] == 1.0


def test_a_changed_result_or_setting_makes_another_run(copy, mirrored):
    def changed() -> list[str]:
        commit_results(copy)
        now, _ = stage_runs(copy)
        return [run.name for run, before in zip(now, mirrored, strict=True) if run.fingerprint != before.fingerprint]

    (copy / "out/sft/model.safetensors").write_bytes(b"other weights")
    assert changed() == ["sft"]
    params = copy / "params.yaml"
    text = params.read_text()
    params.write_text(text.replace("max_quarantined: 0.01", "max_quarantined: 0.02"))
    assert params.read_text() != text
    assert changed() == ["gate@data", "sft"]


def test_stages_that_are_not_done_are_named(copy):
    shutil.rmtree(copy / "out/fronts/bone")
    finished, missing = stage_runs(copy)
    assert missing == ["front@bone"]
    assert "front@rewarded" in [run.name for run in finished]
    (copy / "dvc.lock").unlink()
    finished, missing = stage_runs(copy)
    assert finished == []
    assert {"prepare", "front@bone", "report"} <= set(missing)
