"""Methods at single preferences: each objective's mean, and differences paired by prompt."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from bonesoup.evaluation.samples import Front, shared_units
from bonesoup.evaluation.statistics import Estimate, Statistics, resampled_means
from bonesoup.method.methods import SFT


def places(front: Front, preference: ArrayLike) -> np.ndarray:
    """Find the points of a front nearest to a preference [objective], all of them if several are equally near.

    If the even preference of three objectives is not on the grid, the nearest points favour each objective in turn, and
    their mean is the even preference. A method with the same answer to every preference has one point.
    """
    if front.method == SFT:
        return np.zeros(1, int)
    distance = np.linalg.norm(front.preferences - np.asarray(preference, float), axis=1)
    return np.flatnonzero(np.isclose(distance, distance.min(), atol=1e-9))


def on_grid(front: Front, preference: ArrayLike) -> bool:
    """Return True if a preference [objective] is one of the front's points."""
    return bool(np.isclose(front.preferences, preference, atol=1e-6).all(axis=1).any())


def draws(front: Front, preference: ArrayLike, unit: str, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Return means per resample [draw] at a preference, under resample weights [draw, prompt].

    Returns:
        Each objective's score, `inner_product` (the preference's weighted sum of them), `kl` and `tokens`.
    """
    at = places(front, preference)
    scores = resampled_means(weights, front.scores(unit)[:, at].mean(axis=1))
    means = {name: scores[:, i] for i, name in enumerate(front.objectives)}
    means["inner_product"] = scores @ np.asarray(preference, float)
    return means | {key: weights @ getattr(front, key)[:, at].mean(axis=1) for key in ("kl", "tokens")}


def estimates(front: Front, preference: ArrayLike, unit: str, statistics: Statistics) -> dict[str, Estimate]:
    """Estimate what `draws` returns."""
    means = draws(front, preference, unit, statistics.weights(len(front.prompts)))
    return {name: statistics.estimate(values) for name, values in means.items()}


def differences(
    front: Front, other: Front, preference: ArrayLike, unit: str, statistics: Statistics
) -> dict[str, Estimate]:
    """Estimate `front` minus `other` at a preference, paired by prompt."""
    weights = statistics.weights(len(front.prompts))
    first, second = (draws(f, preference, unit, weights) for f in (front, other))
    return {name: statistics.estimate(first[name] - second[name]) for name in first}


def measured(fronts: Sequence[Front], statistics: Statistics) -> dict:
    """Summarise every point of every front: small enough to travel with a model.

    Returns:
        {"unit": the best that all fronts have, "confidence", "prompts", "objectives", "methods": {method:
        [{"preference", "mean", "low", "high", "floor": [objective]}]}}, in SFT standard deviations: means, percentile
        intervals of each alone, and lower limits that hold for all points and objectives of a method at once, None for
        none (`Statistics.lower_limits`).
    """
    unit = shared_units(fronts)[0]
    prompts = len(fronts[0].prompts)
    weights = statistics.weights(prompts)
    methods = {}
    for front in fronts:
        scores = front.scores(unit)
        means = resampled_means(weights, scores)
        floors = statistics.lower_limits(scores)
        columns = (front.preferences, means[0], *statistics.interval(means), np.where(np.isinf(floors), None, floors))
        names = ("preference", "mean", "low", "high", "floor")
        methods[front.method] = [
            dict(zip(names, map(np.ndarray.tolist, point), strict=True)) for point in zip(*columns, strict=True)
        ]
    return {
        "unit": unit,
        "confidence": statistics.confidence,
        "prompts": prompts,
        "objectives": list(fronts[0].objectives),
        "methods": methods,
    }
