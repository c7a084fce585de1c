"""Versions are scored from their own files, once, by one yardstick; comparisons are paired."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from bonesoup.cli.main import app
from bonesoup.evaluation import point
from bonesoup.evaluation.samples import Front
from bonesoup.files import read_json, write_json
from bonesoup.promotion import sampling
from bonesoup.promotion.compare import compare, difference
from bonesoup.promotion.scoring import Machine, evaluate, score
from bonesoup.registry import scores, yardstick
from bonesoup.registry.listing import listing
from bonesoup.registry.versions import find


@pytest.fixture
def machine(tmp_path) -> Machine:
    return Machine("cpu", 8, tmp_path)


@pytest.fixture
def held(league, tmp_path):
    """Return the current yardstick."""
    return yardstick.load(league.store, "league", tmp_path)


def version(league, text: str):
    return find(league.store.client, text, league.model)


def quiet(line: str) -> None:
    pass


def test_a_soup_carries_its_rewarded_soup_as_adapters_beside_its_own(league, tmp_path):
    recipes = sampling.read_recipes(version(league, "1"), tmp_path)
    assert {method: len(soup.policies) for method, soup in recipes.items()} == {"bone": 2, "rewarded": 2, "sft": 0}
    assert {soup.base for soup in recipes.values()} == {tmp_path / "league-soup-1/artifacts/sft"}
    for name in ("specialist-1", "specialist-2"):
        assert (tmp_path / "league-soup-1/artifacts" / name / "adapter_model.safetensors").is_file()
    facts = read_json(tmp_path / "league-soup-1/lineage/lineage.json")
    assert list(facts["rewarded"]) == ["specialist-1", "specialist-2"]


def test_one_run_ties_its_versions_together(league):
    tied = [version(league, f"{model}/2").tags["pipeline"] for model in ("league-soup", "league-merged-balanced")]
    assert tied[0] == tied[1] != version(league, "1").tags["pipeline"]


def test_registration_brings_the_scores_of_its_own_evaluation(league, held, machine):
    (scored,) = score(league.store, [version(league, "1")], held, machine, quiet)
    assert scored.new == ()
    assert set(scored.fronts) == {"bone", "rewarded", "sft"}
    samples = pd.read_parquet(league.root / "out/fronts/bone/samples.parquet")
    assert scored.front.gold[:, 0, 0].tolist() == samples[samples["point"] == 0]["gold_helpful"].tolist()
    report = read_json(league.root / "out/metrics/report.json")["grids"]["full_grid"]["gold"]["methods"]
    assert scored.evidence["rewarded"]["gold/inner_product"] == report["rewarded"]["inner_product"]


@pytest.mark.parametrize(("mapping", "points"), [("solve", 3), ("quadratic", 3), ("curved", 3), ("single", 1)])
def test_a_soup_is_run_at_every_preference_that_its_mapping_answers(
    league, held, tmp_path, monkeypatch, mapping, points
):
    """Whatever the method's name: a version may hold any soup, and merged weights answer their own preference."""
    soup = sampling.read_recipes(version(league, "1"), tmp_path)["bone"]
    asked = []
    monkeypatch.setattr(sampling, "front_rows", lambda policy, *arguments: asked.extend(policy.soup.preferences))
    sampling.run(replace(soup, mapping=mapping, preferences=((0.5, 0.5),)), held, "cpu", 8)
    assert len(asked) == points


def test_a_version_scored_from_its_files_answers_as_its_soup_does(league, held, tmp_path):
    from bonesoup.generation.sample import sample
    from bonesoup.generation.soup import Soup, SoupModel

    recipes = sampling.read_recipes(version(league, "1"), tmp_path)
    rows = sampling.run(recipes["rewarded"], held, "cpu", 8)
    live = SoupModel.load(Soup.read(league.root / "out/soups/rewarded.json", league.root))
    live.at([0.5, 0.5])
    messages = [row["prompt"] for row in held.prompts]
    seeds = [(held.seed + 1) * 7_000_003 + i for i in range(len(messages))]
    texts = [r.text for r in sample(live.model, live.tokenizer, messages, seeds, 1.0, 16, 8)]
    assert rows[rows["mu_helpful"] == 0.5]["response"].tolist() == texts
    gold = rows.filter(like="gold_")
    assert np.isfinite(gold.to_numpy()).all()


@pytest.mark.parametrize(
    ("text", "preference", "kl"),
    [("league-merged-balanced/1", (0.5, 0.5), False), ("league-backbone-1/1", (0.7, 0.3), True)],
)
def test_a_version_of_one_preference_is_scored_there_once(league, held, machine, text, preference, kl):
    lines = []
    (first,) = score(league.store, [version(league, text)], held, machine, lines.append)
    assert first.preference == preference
    assert first.new == ("bone",)
    assert ("kl" in first.evidence["bone"]) == kl, "merged weights bring no SFT policy to measure it to"
    (again,) = score(league.store, [version(league, text)], held, machine, lines.append)
    assert again.new == ()
    assert len(lines) == 1
    assert again.evidence == first.evidence
    tags = version(league, text).tags
    assert tags[f"yardstick/{held.digest}"] == "bone"
    assert scores.parse(tags[f"{held.digest}/gold/helpful"])["value"] == pytest.approx(
        first.evidence["bone"]["gold/helpful"]["value"], abs=1e-3
    )
    run = league.store.client.get_run(version(league, text).run_id)
    metric = f"yardstick/{held.digest}/bone/gold/helpful"
    assert run.data.metrics[metric] == first.evidence["bone"]["gold/helpful"]["value"]
    assert run.data.metrics[f"{metric}/low"] <= run.data.metrics[metric] <= run.data.metrics[f"{metric}/high"]


def test_a_comparison_is_paired_and_agrees_with_the_numbers_by_hand(league, held, machine):
    pair = score(league.store, [version(league, "1"), version(league, "2")], held, machine, quiet)
    gain = difference(*pair, held)
    assert list(gain["units"]) == ["gold", "reward"]
    part = gain["units"]["gold"]
    for metric, estimate in part["difference"].items():
        gap = part["b"][metric]["value"] - part["a"][metric]["value"]
        assert estimate["value"] == pytest.approx(gap, abs=1e-12)
    by_hand = (pair[1].front.gold - pair[0].front.gold)[:, 1].mean()
    assert part["difference"]["inner_product_interior"]["value"] == pytest.approx(by_hand)
    assert part["difference"]["inner_product_interior"]["low"] > 0
    back = difference(pair[1], pair[0], held)["units"]["gold"]["difference"]
    assert back["inner_product"]["value"] == pytest.approx(-part["difference"]["inner_product"]["value"])


def test_a_merged_version_is_compared_with_a_soup_at_its_preference(league, held, machine):
    pair = score(
        league.store, [version(league, "league-merged-balanced/1"), version(league, "1")], held, machine, quiet
    )
    gain = difference(*pair, held)
    assert gain["preference"] == {"helpful": 0.5, "harmless": 0.5}
    assert set(gain["units"]["gold"]["difference"]) == {"helpful", "harmless", "inner_product", "tokens"}
    b = gain["units"]["gold"]["b"]["helpful"]["value"]
    assert b == pytest.approx(pair[1].front.gold[:, 1, 0].mean())


def test_what_cannot_be_compared_is_refused_with_the_reason(league, held, machine):
    def tried(a, b):
        return compare(league.store, "league", a, b, machine, quiet)

    with pytest.raises(ValueError, match="answers only the preference helpful=0.7,harmless=0.3, and league-soup/1 was"):
        tried("league-backbone-1/1", "1")
    with pytest.raises(ValueError, match="only helpful=0.3,harmless=0.7"):
        tried("league-backbone-1/1", "league-backbone-2/1")
    with pytest.raises(ValueError, match="1 and league-soup/1 are both league-soup/1"):
        tried("1", "league-soup/1")
    client = league.store.client
    client.set_model_version_tag(league.model, "3", "objectives", "helpful,humor")
    try:
        with pytest.raises(ValueError, match="league-soup/3 is about helpful,humor: nothing compares them"):
            tried("1", "3")
        with pytest.raises(ValueError, match="league-soup/3 is about helpful, humor, the yardstick"):
            score(league.store, [version(league, "3")], held, machine, quiet)
    finally:
        client.set_model_version_tag(league.model, "3", "objectives", "helpful,harmless")
    with pytest.raises(ValueError, match="league-yardstick/1 is none of soup, merged, backbone"):
        tried("league-yardstick/1", "1")


def test_the_nearest_points_stand_for_an_even_preference_off_the_grid():
    from bonesoup.method.preferences import lattice

    grid = lattice(3, 4)
    zero = np.zeros((2, len(grid)))
    front = Front("bone", ("a", "b", "c"), ("x", "y"), grid, np.zeros((2, len(grid), 3)), None, zero, zero)
    preference = grid[point.places(front, np.full(3, 1 / 3))]
    assert sorted(preference.tolist()) == [[0.25, 0.25, 0.5], [0.25, 0.5, 0.25], [0.5, 0.25, 0.25]]
    np.testing.assert_allclose(preference.mean(axis=0), 1 / 3)


def test_new_prompts_are_judged_by_the_same_judges(league, machine, tmp_path):
    file = tmp_path / "new.txt"
    file.write_text("Please explain baking\nHelp with gardening simply,\n")
    result = evaluate(league.store, "league", ["2"], file, machine, quiet)
    assert (result["prompts"], result["file"], result["gold_left_out"]) == (2, "new.txt", None)
    (row,) = result["versions"]
    assert row["new"] == ["bone", "rewarded", "sft"]
    assert row["methods"]["sft"]["kl"]["value"] == pytest.approx(0, abs=1e-6)
    assert "gold/inner_product" in row["methods"]["bone"]
    tags = version(league, "2").tags
    assert tags[f"prompts/{result['yardstick']}"] == "new.txt"
    again = evaluate(league.store, "league", ["2"], file, machine, quiet)
    assert again["versions"][0]["new"] == []
    assert again["yardstick"] == result["yardstick"] != yardstick.current(league.store, "league").tags["digest"]


def test_without_a_known_truth_the_gold_score_is_left_out_and_said_to_be(league, machine, tmp_path):
    file = tmp_path / "new.jsonl"
    rows = [{"prompt": "Please explain baking"}, {"prompt": [{"role": "user", "content": "What is rain?"}]}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = []
    result = evaluate(league.store, "league", ["league-merged-balanced/2"], file, machine, lines.append)
    assert "line 2: prompt 'What is rain?' names 0 topics" in result["gold_left_out"]
    assert lines[0].startswith("the true score is left out")
    assert not any(name.startswith("gold/") for name in result["versions"][0]["methods"]["bone"])
    assert any(name.startswith("reward/") for name in result["versions"][0]["methods"]["bone"])


def test_a_prompt_that_does_not_fit_a_model_is_named(league, machine, tmp_path):
    file = tmp_path / "long.txt"
    file.write_text("Please explain baking\n" + "bread " * 60 + "\n")
    with pytest.raises(ValueError, match=r"1 prompts do not fit the model's context = 48: row 2-p"):
        evaluate(league.store, "league", ["1"], file, machine, quiet)


def test_a_judge_that_is_a_function_must_be_the_same_function(held, tmp_path):
    spec = {"objective": "harmless", "kind": "function", "function": "bonesoup.rewards.brevity:brevity"}
    folder = held.folders["harmless"]
    shutil.rmtree(folder / "model")
    write_json(folder / "reward.json", spec | {"digest": "0" * 64})
    with pytest.raises(ValueError, match="brevity:brevity is not the one of the yardstick"):
        sampling.judges(held, "cpu")


def test_a_recipe_that_leads_out_of_the_version_is_refused(league, tmp_path):
    second = version(league, "1")
    sampling.read_recipes(second, tmp_path)
    file = tmp_path / "league-soup-1/artifacts/rewarded.json"
    recipe = read_json(file)
    recipe["policies"][0]["path"] = "../../../../etc"
    write_json(file, recipe)
    with pytest.raises(ValueError, match="leads out of the soup's folder"):
        sampling.read_recipes(second, tmp_path)


def test_a_version_whose_run_was_deleted_is_refused_before_it_is_scored(league, held, machine, tmp_path):
    client, run = league.store.client, version(league, "3").run_id
    file, lines = tmp_path / "new.txt", []
    file.write_text("Please explain baking\nHelp with gardening simply,\n")
    client.delete_run(run)
    try:
        with pytest.raises(
            ValueError, match=f"league-soup/3 cannot be .*deleted in MLflow. `mlflow runs restore --run-id {run}`"
        ):
            evaluate(league.store, "league", ["3"], file, machine, lines.append)
        assert lines == []
        (scored,) = score(league.store, [version(league, "3")], held, machine, quiet)
        assert scored.new == (), "scores that are there are read as before"
    finally:
        client.restore_run(run)


def test_changed_samples_in_the_store_are_not_blamed_on_the_pipeline(league, held, machine):
    run = league.store.client.get_run(version(league, "3").run_id)
    file = Path(urlsplit(run.info.artifact_uri).path) / scores.folder(held.digest) / "rewarded.parquet"
    before = file.read_bytes()
    rows = pd.read_parquet(file)
    rows.assign(prompt_id="other-" + rows["prompt_id"]).to_parquet(file)
    try:
        with pytest.raises(ValueError, match="not evaluated on the same prompts") as error:
            score(league.store, [version(league, "3")], held, machine, quiet)
        assert "bonesoup stage" not in str(error.value)
    finally:
        file.write_bytes(before)


def test_the_list_of_versions_is_read_from_tags_alone(league):
    client = league.store.client
    client.set_registered_model_alias(league.model, "champion", "1")
    try:
        models = listing(league.store, "league")
    finally:
        client.delete_registered_model_alias(league.model, "champion")
    assert list(models["models"]) == ["league-soup", "league-backbone-1", "league-backbone-2", "league-merged-balanced"]
    rows = {row["version"]: row for row in models["models"]["league-soup"]}
    assert list(rows) == [4, 3, 2, 1]
    assert "champion" in rows[1]["aliases"]
    assert "champion" not in rows[2]["aliases"]
    assert rows[4]["lineage"]["git_dirty"] == "true"
    assert rows[1]["yardstick"] == models["yardstick"] != rows[4]["yardstick"]
    report = read_json(league.root / "out/metrics/report.json")["grids"]["full_grid"]["gold"]["methods"]["bone"]
    for metric in ("inner_product_interior", "hypervolume@-1"):
        assert rows[1]["metrics"][f"gold/{metric}"]["value"] == pytest.approx(report[metric]["value"], rel=1e-3)


def test_commands_print_one_json_object_and_tables_that_fit(league, monkeypatch, tmp_path):
    monkeypatch.chdir(league.root)
    runner = CliRunner()
    for command in (["models"], ["evaluate", "1", "2"], ["compare", "1", "2"]):
        done = runner.invoke(app, [*command, "--json"])
        assert done.exit_code == 0, done.stderr
        json.loads(done.stdout)
        done = runner.invoke(app, command)
        assert done.exit_code == 0, done.stderr
        assert max(map(len, done.stdout.splitlines())) <= 120
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"prompt": "fine"}\n{"prompt": 3}\nnot json\n')
    done = runner.invoke(app, ["evaluate", "--prompts", str(bad)])
    assert "line 2: " in str(done.exception)
    assert "line 3: not JSON" in str(done.exception)
