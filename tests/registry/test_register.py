import json
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from bonesoup.files import file_digest, read_json
from bonesoup.registry import lineage

MODELS = [
    "bonesoup-backbone-1",
    "bonesoup-backbone-2",
    "bonesoup-soup",
    "bonesoup-merged-balanced",
    "bonesoup-merged-careful",
]
SLOTS = ["backbone-1", "backbone-2", "specialist-1", "specialist-2"]
# Every stage that is done, and each policy by its slot.
STAGES = {
    "prepare",
    "tidy",
    "gate@data",
    "base",
    "sft",
    "reward@helpful",
    "reward@harmless",
    "gate@reward",
    "normalise",
    "candidates",
}
STAGES |= {"seek", "basis", "choose", *(f"policy@{slot}" for slot in SLOTS), "diagnose", "ric", "soup", "report"}
STAGES |= {f"{stage}@{method}" for stage in ("scale", "front") for method in ("sft", "rewarded", "bone")}


@pytest.fixture(scope="module")
def client(registered):
    return MlflowClient()


@pytest.fixture(scope="module")
def all_runs(client):
    experiment = client.get_experiment_by_name("bonesoup").experiment_id
    return {run.info.run_name: run for run in client.search_runs([experiment])}


@pytest.fixture(scope="module")
def downloaded(registered):
    """Download the first version of every model."""
    return {name: Path(mlflow.artifacts.download_artifacts(f"models:/{name}/1")) for name in MODELS}


def test_every_stage_and_model_is_sent(registered):
    result, lines, _ = registered
    assert {name: set(runs) for name, runs in result["runs"].items()} == {
        "sent": STAGES,
        "had": set(),
        "missing": set(),
    }
    assert len(result["runs"]["sent"]) == len(STAGES)
    assert result["models"] == {name: {"version": 1, "new": True} for name in MODELS}
    assert any("policy@backbone-1: run sent" in line for line in lines)


def test_a_second_call_sends_nothing(registered, client, all_runs):
    _, lines, again = registered
    result = again()
    assert (result["runs"]["sent"], set(result["runs"]["had"]), result["runs"]["missing"]) == ([], STAGES, [])
    assert result["models"] == {name: {"version": 1, "new": False} for name in MODELS}
    assert "versions: 0 registered, 5 there already" in lines
    assert len(client.search_runs(["1"])) == len(all_runs)
    assert len(client.search_model_versions()) == len([*MODELS, "bonesoup-yardstick", "bonesoup-base"])


def test_runs_lie_under_one_parent(all_runs):
    (parent,) = [run for name, run in all_runs.items() if name.startswith("pipeline ")]
    (yardstick,) = [run for name, run in all_runs.items() if name.startswith("yardstick ")]
    (base,) = [run for name, run in all_runs.items() if name.startswith("base ")]
    alone = (parent, yardstick, base)
    children = {name for name, run in all_runs.items() if run not in alone}
    assert children == {*STAGES, *(f"register@{name}" for name in MODELS)}
    for run in all_runs.values():
        assert run.info.status == "FINISHED"
        if run not in alone:
            assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert parent.data.params["rl.lora.rank"] == "8"


def test_a_policy_run_has_settings_and_metrics_per_step(client, all_runs):
    run = all_runs["policy@backbone-1"]
    assert run.data.params["row.helpful"] == "0.7"
    assert run.data.params["rl.kl"] == "0.1"
    assert run.data.tags["key"] == "backbone-1"
    history = client.get_metric_history(run.info.run_id, "reward/helpful")
    assert [(point.step, point.value) for point in history] == [(s, 0.1 * s) for s in range(1, 6)]
    assert run.data.metrics["final/kl"] == 2.5


def test_artifacts_are_small_files_and_no_weights(client, all_runs):
    listed = {
        name: [item.path for item in client.list_artifacts(all_runs[name].info.run_id)]
        for name in ("sft", "policy@backbone-1", "front@bone", "report")
    }
    assert listed == {
        "sft": ["sft.json"],
        "policy@backbone-1": ["policy.json"],
        "front@bone": ["front.json", "samples.parquet"],
        "report": ["fronts.json", "report", "report.json"],
    }


def test_an_interrupted_run_is_filled_and_not_doubled(registered, client, all_runs):
    _, _, again = registered
    run = all_runs["policy@backbone-1"]
    client.update_run(run.info.run_id, status="RUNNING")
    assert again()["runs"]["sent"] == ["policy@backbone-1"]
    experiment = run.info.experiment_id
    assert len(client.search_runs([experiment], "tags.key = 'backbone-1'")) == 1
    assert len(client.get_metric_history(run.info.run_id, "reward/helpful")) == 5


def test_only_what_changed_is_sent_again(registered, project):
    _, _, again = registered
    again()
    file = project.root / "out/metrics/reward-helpful.json"
    before = file.read_text()
    file.write_text(json.dumps(read_json(file) | {"accuracy": 0.8}))
    try:
        result = again()
    finally:
        file.write_text(before)
    assert result["runs"]["sent"] == ["reward@helpful"]
    assert not any(model["new"] for model in result["models"].values())


def test_settings_changed_after_an_interruption_make_a_parent_of_their_own(registered, client, all_runs, project):
    """MLflow refuses to overwrite a parameter of the old one."""
    _, _, again = registered
    (parent,) = [run for name, run in all_runs.items() if name.startswith("pipeline ")]
    client.update_run(parent.info.run_id, status="RUNNING")
    text = project.settings_text.replace("max_quarantined: 0.01", "max_quarantined: 0.02")
    assert text != project.settings_text
    assert again(settings_text=text)["runs"]["sent"] == []
    again()
    assert client.get_run(parent.info.run_id).info.status == "FINISHED"


def test_a_version_cut_short_is_completed_by_the_next_call(registered, client, project, monkeypatch):
    _, _, again = registered
    with monkeypatch.context() as patch:

        def gone(*arguments):
            raise MlflowException("connection reset")

        patch.setattr(MlflowClient, "log_model_artifacts", gone)
        with pytest.raises(ConnectionError, match="connection reset"):
            again(merged=["helpful-first"])
    name = "bonesoup-merged-helpful-first"
    assert client.search_model_versions(f"name='{name}'") == []
    assert again(merged=["helpful-first"])["models"][name] == {"version": 1, "new": True}
    assert len(client.search_runs(["1"], f"tags.key = '{name}'")) == 1
    assert not list((project.root / "var").glob("version-*"))


def test_versions_carry_their_lineage(downloaded, project):
    for name, folder in downloaded.items():
        facts = read_json(folder / "lineage/lineage.json")
        assert (folder / "lineage/params.yaml").read_text() == project.settings_text
        assert (folder / "lineage/dvc.lock").exists()
        assert read_json(folder / "lineage/fronts.json") == read_json(project.root / "out/metrics/fronts.json")
        assert facts["git"] == {"commit": lineage.code(project.root).commit, "dirty": False}
        assert facts["sha256"]["out/data/prompts.jsonl"] == file_digest(project.root / "out/data/prompts.jsonl")
        assert facts["sha256"]["out/rewards/helpful"] == file_digest(project.root / "out/rewards/helpful")
        assert facts["environment"]["packages"]["mlflow"] == mlflow.__version__
        slots = ["backbone-1", "backbone-2"] if "backbone" not in name else [name.removeprefix("bonesoup-")]
        assert list(facts["policies"]) == slots
        for slot, policy in facts["policies"].items():
            weights = project.root / "out/policies/backbones" / slot / "adapter_model.safetensors"
            assert policy["sha256"] == file_digest(weights)
        assert (folder / "code/bonesoup/generation/soup.py").exists()
        assert not list((folder / "code").rglob("*.safetensors"))
        assert "torch==2.13.0\n" in (folder / "requirements.txt").read_text()


def test_a_dirty_tree_is_flagged_with_its_diff(project):
    assert not lineage.code(project.root).dirty
    params, lock = project.root / "params.yaml", project.root / "dvc.lock"
    recorded = lock.read_text()
    lock.write_text(recorded + "# changed\n")
    params.write_text(project.settings_text + "# changed\n")
    card = project.root / "mlflow/model-card.md"
    text = card.read_text()
    try:
        assert not lineage.code(project.root).dirty, "runs and profiles rewrite these, and they are recorded whole"
        card.write_text(text + "# changed\n")
        code = lineage.code(project.root)
    finally:
        params.write_text(project.settings_text)
        lock.write_text(recorded)
        card.write_text(text)
    assert "+# changed" in code.changes
    assert code.dirty


def test_outside_git_the_code_is_unknown_and_flagged(tmp_path):
    code = lineage.code(tmp_path)
    assert (code.commit, code.dirty) == ("unknown", True)


def test_metrics_of_a_merged_soup_are_those_of_its_grid_point(client, project):
    rows = pd.read_parquet(project.root / "out/fronts/bone/samples.parquet")
    expected = rows[rows["mu_helpful"] == 0.5]["gold_helpful"].mean()
    tags = client.get_model_version("bonesoup-merged-balanced", "1").tags
    assert float(tags["gold/helpful"].split()[0]) == pytest.approx(expected, abs=1e-3)
    assert tags["preference"] == "helpful=0.5,harmless=0.5"
    run = client.get_run(client.get_model_version("bonesoup-merged-balanced", "1").run_id)
    assert run.data.metrics["gold/helpful"] == pytest.approx(expected)
    assert run.data.metrics["gold/helpful/low"] < expected < run.data.metrics["gold/helpful/high"]


def test_off_the_grid_there_are_no_metrics_and_the_card_says_so(client, downloaded):
    tags = client.get_model_version("bonesoup-merged-careful", "1").tags
    assert not any(name.startswith(("gold/", "reward/")) for name in tags)
    card = (downloaded["bonesoup-merged-careful"] / "README.md").read_text()
    assert "0.2 helpful + 0.8 harmless is not on the evaluation grid" in card


def test_the_soup_carries_the_metrics_of_the_report(client, project):
    report = read_json(project.root / "out/metrics/report.json")
    expected = report["grids"]["full_grid"]["gold"]["methods"]["bone"]["inner_product"]
    run = client.get_run(client.get_model_version("bonesoup-soup", "1").run_id)
    assert run.data.metrics["gold/inner_product"] == expected["value"]
    assert run.data.metrics["gold/inner_product/low"] == expected["low"]


def test_cards_hold_recipe_metrics_and_licence(downloaded, client):
    card = (downloaded["bonesoup-merged-balanced"] / "README.md").read_text()
    assert card.startswith("---\nlicense: apache-2.0\n")
    assert "| backbone-1 | 0.7 helpful + 0.3 harmless | 5 | 0.5 |" in card
    assert "| gold/helpful |" in card
    assert "AutoModelForCausalLM" in card
    assert "held-out accuracy 0.900" in card
    for name, folder in downloaded.items():
        text = (folder / "README.md").read_text()
        assert text.count("```") % 2 == 0
        assert client.get_model_version(name, "1").description in text
    steerable = (downloaded["bonesoup-soup"] / "README.md").read_text()
    assert "| backbone-1 | 0.7 helpful + 0.3 harmless | 5 |\n" in steerable
    assert 'params={"named": "balanced"}' in steerable


def test_merged_weights_load_in_plain_transformers_and_equal_the_live_soup(downloaded, project):
    from transformers import AutoModelForCausalLM

    from bonesoup.generation.soup import Soup, SoupModel

    ids = torch.tensor([[5, 6, 7, 8]])
    live = SoupModel.load(Soup.read(project.root / "out/soups/bone.json", project.root))
    live.at([0.2, 0.8])
    folder = downloaded["bonesoup-merged-careful"] / "artifacts/checkpoint"
    with torch.inference_mode():
        plain = AutoModelForCausalLM.from_pretrained(folder)(ids).logits
        expected = live.model(ids).logits
        live.base_alone()
        base = live.model(ids).logits
    np.testing.assert_allclose(plain, expected, atol=1e-4)
    assert (plain - base).abs().max() > 0.1
