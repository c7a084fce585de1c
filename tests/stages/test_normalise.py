"""The scale of rewards and of their judges, the scores in it, and the yardstick that keeps both."""

import numpy as np
import pytest
from pinned import default

from bonesoup.evaluation.front_rows import load_scorer, scorer_of
from bonesoup.files import read_json, read_jsonl, write_json, write_jsonl
from bonesoup.paths import NORMALISER, PROMPTS, REWARDS, SFT
from bonesoup.registry import yardstick
from bonesoup.rewards.features import Trunk
from bonesoup.rewards.score import load_reward
from bonesoup.settings import schema
from bonesoup.stages import normalise
from bonesoup.training.task import task

TEXTS = ["Use flour.", "Sorry, I cannot.", "Stay careful! Try boards.", "yes no"]


@pytest.fixture
def settings(staged) -> schema.Settings:
    """Make settings on data without a known truth: `helpful` is a head with a judge, `harmless` is computed."""
    rng = np.random.default_rng(0)
    for judge, folder in ((False, REWARDS / "helpful"), (True, REWARDS / "helpful/judge")):
        head = {"layer": 1, "weight": rng.normal(0, 20, 32).tolist(), "bias": 0.0, "penalty": 1.0}
        spec = {"objective": "helpful", "kind": "head", "model": str(SFT), "head": head, "judge": judge}
        write_json(folder / "reward.json", spec)
    spec = read_json(REWARDS / "harmless/reward.json")
    write_json(REWARDS / "harmless/reward.json", spec | {"digest": "0" * 64})
    rows = read_jsonl(PROMPTS)
    write_jsonl(PROMPTS, [*rows, *(row | {"split": "test", "id": f"test-{row['id']}"} for row in rows)])
    raw = default()
    raw["data"] |= {"source": "hh-rlhf"}
    raw["normalise"]["samples"] = 32
    raw["evaluation"]["samples"] = 4
    return schema.Settings.model_validate(raw, context=schema.Check())


def test_judges_have_a_scale_of_their_own_and_score_next_to_the_rewards(settings, prompts):
    normalise.run(settings, None)
    scale = read_json(NORMALISER)
    assert scale["judge"]["mean"][0] != scale["mean"][0]
    assert scale["judge"]["mean"][1] == scale["mean"][1], "a computed reward is its own judge"
    assert scale["judge"]["reward_correlation"][1] == pytest.approx(1)
    columns = load_scorer(settings).columns(prompts[:4], TEXTS)
    names = ["reward_helpful", "reward_harmless", "judge_helpful", "judge_harmless"]
    assert list(columns) == names
    judge = load_reward(REWARDS / "helpful/judge")
    expected = (judge.score(prompts[:4], TEXTS) - scale["judge"]["mean"][0]) / scale["judge"]["std"][0]
    np.testing.assert_array_equal(columns["judge_helpful"], expected)
    np.testing.assert_array_equal(columns["judge_harmless"], columns["reward_harmless"])
    assert (columns["judge_helpful"] != columns["reward_helpful"]).all()


def test_training_logs_the_judge_of_a_learned_reward_at_no_further_pass(settings, prompts, monkeypatch):
    normalise.run(settings, None)
    shared, passes = task(settings), []
    assert [reward.objective for reward in shared.rewards] == ["helpful", "harmless"]
    features = Trunk.features
    monkeypatch.setattr(Trunk, "features", lambda *given: passes.append(given) or features(*given))
    shared.rewards[0].score(prompts[:4], TEXTS)
    expected = load_scorer(settings).columns(prompts[:4], TEXTS)["judge_helpful"].mean()
    assert len(passes) == 2, "one for the reward, one for the other scorer"
    assert {name: judge.mean_score(prompts[:4], TEXTS) for name, judge in shared.judges.items()} == {
        "helpful": pytest.approx(expected)
    }
    assert len(passes) == 2, "the judge reads the features of its reward"


@pytest.mark.parametrize("rewards", ["computed", "without a judge"])
def test_without_judges_nothing_is_added(settings, prompts, rewards):
    if rewards == "computed":
        spec = read_json(REWARDS / "harmless/reward.json")
        write_json(REWARDS / "helpful/reward.json", spec | {"objective": "helpful"})
    (REWARDS / "helpful/judge/reward.json").unlink()
    (REWARDS / "helpful/judge").rmdir()
    normalise.run(settings, None)
    assert list(read_json(NORMALISER)) == ["objectives", "mean", "std", "correlation", "samples", "gold"]
    assert list(load_scorer(settings).columns(prompts[:4], TEXTS)) == ["reward_helpful", "reward_harmless"]
    assert task(settings).judges == {}


def test_a_yardstick_keeps_the_judges_and_is_another_without_them(settings, staged, prompts, tmp_path):
    normalise.run(settings, None)
    plain = settings.model_dump()
    measure = yardstick.of_pipeline(staged, plain)
    yardstick.write(measure, staged, tmp_path / "kept")
    kept = yardstick.read(tmp_path / "kept")
    assert kept.digest == measure.digest
    folders = [kept.folders[name] for name in kept.objectives]
    columns = scorer_of(kept.objectives, folders, kept.normaliser, None, "cpu").columns(prompts[:4], TEXTS)
    for name, values in load_scorer(settings).columns(prompts[:4], TEXTS).items():
        np.testing.assert_array_equal(columns[name], values)
    spec = read_json(REWARDS / "helpful/judge/reward.json")
    write_json(REWARDS / "helpful/judge/reward.json", spec | {"head": spec["head"] | {"bias": 1.0}})
    assert yardstick.of_pipeline(staged, plain).digest != measure.digest
    with open(tmp_path / "kept/judges/helpful/judge/reward.json", "a") as out:
        out.write("\n")
    assert yardstick.read(tmp_path / "kept").digest == measure.digest
    write_json(tmp_path / "kept/judges/helpful/judge/reward.json", spec | {"model": None, "head": None})
    with pytest.raises(ValueError, match="judge helpful has digest"):
        yardstick.read(tmp_path / "kept")
