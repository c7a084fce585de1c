"""Betas compared by the fronts of their probes."""

from collections.abc import Mapping
from dataclasses import asdict

import numpy as np

from bonesoup.evaluation.samples import Front
from bonesoup.evaluation.statistics import estimate, resample_weights, resampled_means
from bonesoup.method.front import hypervolume


def compare_betas(
    fronts: Mapping[float, Front], kept: float, reference: float, bootstrap: int, confidence: float, seed: int
) -> list[dict]:
    """Hypervolume of every beta in learned units, and its difference to the beta that is kept, paired by prompt.

    Args:
        fronts: {beta: front of its probe} on the same validation prompts.
        kept: the beta that stays unless another is better.
        confidence: of the whole choice: differences share it among the candidates (Bonferroni).
        reference: the hypervolume's, one value for every objective.

    Returns:
        {"beta", "hypervolume", "difference", "kl", "scored"} per beta: two results with their intervals, mean KL in
        nats per response, and how many responses they rest on.
    """
    first = next(iter(fronts.values()))
    weights = resample_weights(len(first.prompts), bootstrap, seed)
    corner = np.full(len(first.objectives), reference)
    draws = {
        beta: np.array([hypervolume(points, corner) for points in resampled_means(weights, front.reward)])
        for beta, front in fronts.items()
    }
    level = 1 - (1 - confidence) / max(1, len(fronts) - 1)
    return [
        {
            "beta": beta,
            "hypervolume": asdict(estimate(values, confidence)),
            "difference": asdict(estimate(values - draws[kept], level)),
            "kl": float(fronts[beta].kl.mean()),
            "scored": fronts[beta].kl.size,
        }
        for beta, values in draws.items()
    ]
