"""normalise: the scale of each reward, from responses the SFT policy samples on training prompts."""

import numpy as np

from bonesoup.chat import check_context
from bonesoup.data.gold import gold_scorer
from bonesoup.files import read_jsonl, write_json
from bonesoup.generation.sample import render, sample
from bonesoup.generation.soup import Soup, SoupModel
from bonesoup.paths import NORMALISER, PROMPTS, REWARDS, SFT
from bonesoup.rewards.normalise import fit
from bonesoup.rewards.score import judge_folders, load_rewards, score_all
from bonesoup.settings.schema import Settings


def run(settings: Settings, key: None) -> None:
    names = settings.objectives
    rows = read_jsonl(PROMPTS)
    pool = [row["prompt"] for row in rows if row["split"] == "train"]
    prompts = [pool[i % len(pool)] for i in range(settings.normalise.samples)]
    alone = Soup("sft", SFT, tuple(names), "none", (), ())
    policy = SoupModel.load(alone, settings.device)
    # The first stage with tokenizer and prompts: check that no prompt outgrows the context later, in training.
    texts = render(policy.tokenizer, [row["prompt"] for row in rows])
    limit = settings.generation.max_new_tokens
    check_context(policy.tokenizer, [row["id"] for row in rows], texts, limit, "prompts with their responses")
    responses = sample(
        policy.model,
        policy.tokenizer,
        prompts,
        [settings.seed * 1_000_003 + i for i in range(len(prompts))],
        settings.generation.temperature,
        settings.generation.max_new_tokens,
        batch=256,
    )
    texts = [response.text for response in responses]
    folders = [REWARDS / name for name in names]
    judges = judge_folders(folders) or []
    # Loaded together: a reward head and its judge share the base.
    rewards = load_rewards([*folders, *judges], settings.device)
    scores = score_all(rewards[: len(names)], prompts, texts)
    facts = {"objectives": names} | _scale(scores, names) | {"samples": len(texts), "gold": None}
    if judges:
        judged = score_all(rewards[len(names) :], prompts, texts)
        facts["judge"] = _scale(judged, [f"{name}'s judge" for name in names])
        facts["judge"]["reward_correlation"] = _agreement(scores, judged)
    if gold := gold_scorer(settings.data.source, names, settings.data.path):
        truth = gold(prompts, texts)
        facts["gold"] = _scale(truth, names) | {"reward_correlation": _agreement(scores, truth)}
        print(f"normalise: correlation of gold {names[0]} and {names[1]}: {facts['gold']['correlation'][0][1]:+.2f}")
    write_json(NORMALISER, facts)
    print(f"normalise: correlation of reward {names[0]} and {names[1]}: {facts['correlation'][0][1]:+.2f}")


def _scale(scores: np.ndarray, names: list[str]) -> dict:
    """Fit the scale of scores [sample, objective]."""
    fitted = fit(scores, names)
    correlation = np.corrcoef(scores.T).tolist()
    return {"mean": fitted.mean.tolist(), "std": fitted.std.tolist(), "correlation": correlation}


def _agreement(scores: np.ndarray, other: np.ndarray) -> list[float]:
    """Correlate the rewards with another score of the same objectives, each objective for itself."""
    return [float(np.corrcoef(scores[:, i], other[:, i])[0, 1]) for i in range(scores.shape[1])]
