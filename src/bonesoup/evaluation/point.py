"""A method at one preference: each objective's mean, and differences paired by prompt."""

import numpy as np

from bonesoup.evaluation.compare import CONSTANT
from bonesoup.evaluation.samples import Front
from bonesoup.evaluation.statistics import Estimate, estimate, resampled_means


def places(front: Front, preference) -> np.ndarray:
    """The front's points that stand for a preference [objective]: the nearest one, all of them where several tie.

    Where the even preference of three objectives is not on the grid, the nearest points are those that favour each
    objective in turn: their mean is the even preference. A method that answers every preference alike has one point.
    """
    if front.method == CONSTANT:
        return np.zeros(1, int)
    distance = np.linalg.norm(front.preferences - np.asarray(preference, float), axis=1)
    return np.flatnonzero(np.isclose(distance, distance.min(), atol=1e-9))


def on_grid(front: Front, preference) -> bool:
    return bool(np.isclose(front.preferences, preference, atol=1e-6).all(axis=1).any())


def draws(front: Front, preference, unit: str, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Means per resample [draw] at a preference, under resample weights [draw, prompt].

    Returns:
        Each objective's score, `inner_product` (the preference's weighted sum of them), `kl` and `tokens`.
    """
    at = places(front, preference)
    scores = resampled_means(weights, getattr(front, unit)[:, at].mean(axis=1))
    found = {name: scores[:, i] for i, name in enumerate(front.objectives)}
    found["inner_product"] = scores @ np.asarray(preference, float)
    return found | {key: weights @ getattr(front, key)[:, at].mean(axis=1) for key in ("kl", "tokens")}


def estimates(found: dict[str, np.ndarray], confidence: float) -> dict[str, Estimate]:
    return {name: estimate(values, confidence) for name, values in found.items()}


def differences(
    front: Front, other: Front, preference, unit: str, weights: np.ndarray, confidence: float
) -> dict[str, Estimate]:
    """`front` minus `other` at a preference, paired by prompt."""
    mine, theirs = (draws(f, preference, unit, weights) for f in (front, other))
    return estimates({name: mine[name] - theirs[name] for name in mine}, confidence)
