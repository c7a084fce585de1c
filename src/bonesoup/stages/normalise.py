"""normalise: the scale of each reward, from responses the SFT policy samples on training prompts."""

import numpy as np

from bonesoup.chat import check_context
from bonesoup.data.gold import gold_scorer
from bonesoup.files import read_jsonl, write_json
from bonesoup.generation.sample import render, sample
from bonesoup.generation.soup import Soup, SoupModel
from bonesoup.paths import NORMALISER, PROMPTS, REWARDS, SFT
from bonesoup.rewards.normalise import fit
from bonesoup.rewards.score import load_rewards
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
    rewards = load_rewards([REWARDS / name for name in names], settings.device)
    scores = np.stack([reward.score(prompts, texts) for reward in rewards], axis=1)
    normaliser = fit(scores, names)
    facts = {
        "objectives": names,
        "mean": normaliser.mean.tolist(),
        "std": normaliser.std.tolist(),
        "correlation": np.corrcoef(scores.T).tolist(),
        "samples": len(texts),
        "gold": None,
    }
    if gold := gold_scorer(settings.data.source, names, settings.data.path):
        scored = [gold(prompt[-1]["content"], text) for prompt, text in zip(prompts, texts, strict=True)]
        truth = np.array([[row[name] for name in names] for row in scored])
        fitted = fit(truth, names)
        facts["gold"] = {
            "mean": fitted.mean.tolist(),
            "std": fitted.std.tolist(),
            "correlation": np.corrcoef(truth.T).tolist(),
            "reward_correlation": [float(np.corrcoef(scores[:, i], truth[:, i])[0, 1]) for i in range(len(names))],
        }
        print(f"normalise: correlation of gold {names[0]} and {names[1]}: {facts['gold']['correlation'][0][1]:+.2f}")
    write_json(NORMALISER, facts)
    print(f"normalise: correlation of reward {names[0]} and {names[1]}: {facts['correlation'][0][1]:+.2f}")
