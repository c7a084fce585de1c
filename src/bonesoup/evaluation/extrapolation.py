"""Choosing how far to go beyond the merge: theta_sft + scale (theta - theta_sft), on validation prompts.

The training reward nearly always asks for the largest scale, as extrapolating undoes part of the KL penalty. So a
scale has to win in a score that was not trained against, where the task has one, within a bound of KL, by more than
the noise of the prompts; else there is none.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict

import numpy as np

from bonesoup.evaluation.samples import Front
from bonesoup.evaluation.statistics import estimate, resample_weights, resampled_means


def choose_scale(
    front: Callable[[float], Front],
    weights: np.ndarray,
    scales: Sequence[float],
    kl: float,
    bootstrap: int,
    confidence: float,
    seed: int,
) -> tuple[float, list[dict]]:
    """The scale with the largest utility among those that are admissible and distinguishable from 1; else 1.

    Args:
        front: scale -> what the method answers at some preferences on the validation prompts, the same at every scale.
        weights: [preference, objective] of the utility; the preferences themselves, or one objective alone.
        scales: candidates, 1 among them.
        kl: largest mean KL at any preference, nats per response.
        confidence: of the whole choice: it is shared among the candidates (Bonferroni).

    Returns:
        The scale, and a row per candidate: {"scale", "unit", "utility", "gain", "kl", "admissible"}.
    """
    found = {scale: front(scale) for scale in sorted({1.0, *scales})}
    plain = found[1.0]
    draws = resample_weights(len(plain.prompts), bootstrap, seed)
    level = 1 - (1 - confidence) / max(1, len(found) - 1)
    unit = "gold" if plain.gold is not None else "reward"

    def utility(one: Front) -> np.ndarray:
        return resampled_means(draws, (getattr(one, unit) * weights).sum(axis=2).mean(axis=1))

    base = utility(plain)
    table = []
    for scale, one in found.items():
        moved = float(one.kl.mean(axis=0).max())
        table.append(
            {
                "scale": scale,
                "unit": unit,
                "utility": float(utility(one)[0]),
                "gain": asdict(estimate(utility(one) - base, level)),
                "kl": moved,
                "admissible": moved <= kl,
            }
        )
    better = [row for row in table if row["admissible"] and row["gain"]["low"] > 0]
    return max(better, key=lambda row: row["utility"], default={"scale": 1.0})["scale"], table
