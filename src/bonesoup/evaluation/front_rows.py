"""A method's front: responses to the same prompts, with the same noise, at every preference, and their scores."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from bonesoup.data.gold import gold_scorer
from bonesoup.files import read_json, read_jsonl
from bonesoup.generation.reward_context import contexts
from bonesoup.generation.sample import log_probabilities
from bonesoup.generation.soup import Soup, SoupModel
from bonesoup.generation.sweep import sweep
from bonesoup.paths import NORMALISER, PROMPTS, REWARDS
from bonesoup.progress import Throttle
from bonesoup.rewards.normalise import Normaliser
from bonesoup.rewards.score import Reward, load_rewards
from bonesoup.settings import schema


@dataclass(frozen=True)
class Scorer:
    """Learned rewards and, where the task knows it, the true score of (prompt text, response)."""

    objectives: tuple[str, ...]
    rewards: list[Reward]
    normaliser: Normaliser
    gold: Callable[[str, str], dict[str, float]] | None
    gold_normaliser: Normaliser | None

    def columns(self, prompts: list[list[dict]], texts: list[str]) -> dict[str, np.ndarray]:
        """Return reward_<objective> and gold_<objective>, in SFT standard deviations, each [batch]."""
        raw = np.stack([reward.score(prompts, texts) for reward in self.rewards], axis=1)
        table = _columns("reward", self.objectives, self.normaliser(raw))
        if self.gold:
            rows = [self.gold(prompt[-1]["content"], text) for prompt, text in zip(prompts, texts, strict=True)]
            truth = np.array([[row[name] for name in self.objectives] for row in rows])
            table |= _columns("gold", self.objectives, self.gold_normaliser(truth))
        return table


def load_prompts(split: str, count: int) -> list[dict]:
    """Read the first `count` prompts of a split (train, validation, test), or all if there are fewer."""
    return [row for row in read_jsonl(PROMPTS) if row["split"] == split][:count]


def load_scorer(settings: schema.Settings) -> Scorer:
    """Load the rewards of this run and, if the task has one, the true score."""
    scale = read_json(NORMALISER)
    gold = scale["gold"]
    return Scorer(
        objectives=tuple(settings.objectives),
        rewards=load_rewards([REWARDS / name for name in settings.objectives], settings.device),
        normaliser=Normaliser(np.array(scale["mean"]), np.array(scale["std"])),
        gold=gold_scorer(settings.data.source, settings.objectives, settings.data.path),
        gold_normaliser=Normaliser(np.array(gold["mean"]), np.array(gold["std"])) if gold else None,
    )


def _columns(prefix: str, names: tuple[str, ...], values: np.ndarray) -> dict[str, np.ndarray]:
    return {f"{prefix}_{name}": values[:, i] for i, name in enumerate(names)}


def front_rows(
    policy: SoupModel,
    prompts: list[dict],
    scorer: Scorer,
    generation: schema.Generation,
    batch: int,
    seed: int,
) -> pd.DataFrame:
    """Sample and score one row per preference and prompt; a prompt has the same noise at all preferences and methods.

    The SFT policy gives every preference the same answer, so it is sampled once, as point 0.
    """
    messages = [row["prompt"] for row in prompts]
    seeds = [(seed + 1) * 7_000_003 + i for i in range(len(prompts))]
    points = policy.soup.preferences[:1] if policy.soup.mapping == "none" else policy.soup.preferences
    coefficients = np.array([policy.coefficients(point) for point in points])
    temperature, length = generation.temperature, generation.max_new_tokens
    asked_for = contexts(policy.soup.objectives, policy.soup.reach, points) if policy.soup.reach else ()
    throttle = Throttle()
    responses, likelihoods, scores = [], [], []
    for rows, sampled, log_probs in sweep(policy, coefficients, messages, seeds, temperature, length, batch, asked_for):
        responses += sampled
        likelihoods.append(log_probs)
        asked = [messages[row % len(prompts)] for row in rows]
        scores.append(pd.DataFrame(scorer.columns(asked, [response.text for response in sampled])))
        done = (rows[-1] + 1) // len(prompts)
        if throttle.ready() or done == len(points):
            print(f"front@{policy.soup.method}: point {done}/{len(points)}", flush=True)
    sft = _sft(policy)
    base = log_probabilities(sft.model, sft.tokenizer, messages * len(points), responses, batch, temperature)
    point = np.repeat(np.arange(len(points)), len(prompts))
    table = {
        "method": policy.soup.method,
        "point": point,
        "prompt_id": [row["id"] for row in prompts] * len(points),
        "prompt": [prompt[-1]["content"] for prompt in messages] * len(points),
        "response": [response.text for response in responses],
        "tokens": [len(response.token_ids) for response in responses],
        "finished": [response.finished for response in responses],
        "kl": np.concatenate(likelihoods) - base.double().numpy(),
    }
    table |= _columns("mu", scorer.objectives, np.array(points, float)[point])
    return pd.DataFrame(table).join(pd.concat(scores, ignore_index=True))


def _sft(policy: SoupModel) -> SoupModel:
    """Return the policy that the KL is measured to: this one without its adapters if its base is the SFT policy."""
    soup = policy.soup
    if soup.reference:
        return SoupModel.load(replace(soup, base=soup.reference, mapping="none"), policy.model.device)
    policy.base_alone()
    return policy


def summarise(soup: Soup, rows: pd.DataFrame) -> dict:
    """Return the content of front.json: the means of every point."""
    means = rows.groupby("point")[[c for c in rows if rows[c].dtype.kind in "fib" and c != "point"]].mean()
    points = [list(soup.preferences[i]) for i in means.index]

    def table(prefix: str) -> list[list[float]] | None:
        columns = [f"{prefix}_{name}" for name in soup.objectives]
        return means[columns].to_numpy().tolist() if columns[0] in means else None

    return {
        "method": soup.method,
        "preferences": points,
        "coefficients": [soup.coefficients(point).tolist() for point in points],
        "reward": table("reward"),
        "gold": table("gold"),
        "kl": means["kl"].tolist(),
        "length": means["tokens"].tolist(),
        "finished": means["finished"].tolist(),
    }
