"""What every method scored at every preference, with intervals: small enough to travel with a model."""

from collections.abc import Sequence

import numpy as np

from bonesoup.evaluation.samples import Front
from bonesoup.evaluation.statistics import percentile_interval, resample_weights, resampled_means


def measured(fronts: Sequence[Front], bootstrap: int, confidence: float, seed: int) -> dict:
    """Mean and percentile interval of each objective at each point, in SFT standard deviations.

    Args:
        bootstrap: resamples of prompts, the same for every method.

    Returns:
        {"unit": "gold" where the true score is known, else "reward", "confidence", "objectives", "methods":
        {method: [{"preference", "mean", "low", "high": [objective]}]}}
    """
    unit = "gold" if all(front.gold is not None for front in fronts) else "reward"
    weights = resample_weights(len(fronts[0].prompts), bootstrap, seed)
    methods = {}
    for front in fronts:
        draws = resampled_means(weights, getattr(front, unit))
        low, high = percentile_interval(draws, confidence)
        columns = (front.preferences, draws[0], low, high)
        methods[front.method] = [
            dict(zip(("preference", "mean", "low", "high"), map(np.ndarray.tolist, point), strict=True))
            for point in zip(*columns, strict=True)
        ]
    return {"unit": unit, "confidence": confidence, "objectives": list(fronts[0].objectives), "methods": methods}
