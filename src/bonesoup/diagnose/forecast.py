"""Forecast from lines between policies and short runs what a soup that is not trained yet will gain.

Everything is in draws [1 + resamples] of a paired bootstrap over prompts, the sample's own value first. The theory is
`method.quadratic`.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from bonesoup.evaluation.statistics import Estimate, Statistics
from bonesoup.method.preferences import interior
from bonesoup.method.quadratic import added_noise, relative_gain

# Nats per response between which soups were seen to work: below, Rewarded Soup is already near the oracle; above,
# negative coefficients extrapolate into answers that only the learned reward likes.
LITTLE, GOOD, FAR = 1.0, 5.0, 7.0
# Power, for the number of prompts: the chance of detecting a gain of the predicted size.
POWER = 0.8


@dataclass(frozen=True)
class Prediction:
    """The gain of a soup over Rewarded Soup, in mean utility (preference times score), with its interval.

    Attributes:
        gain, low, high: averaged over interior preferences.
        grid: averaged over the whole grid.
        even, vertices: at the even preference, and averaged over the vertices.
        region: share of the grid's preferences at which it gains.
        extrapolating: how much of it extrapolation costs: {"interior", "grid", "vertices": utility}.
    """

    gain: float
    low: float
    high: float
    grid: Estimate
    even: Estimate
    vertices: Estimate
    region: float
    extrapolating: dict[str, float]

    @property
    def verdict(self) -> str:
        """Return win, lose, or tie if the interval contains 0."""
        return "win" if self.low > 0 else "lose" if self.high < 0 else "tie"


def predict(
    regret: np.ndarray,
    rows: ArrayLike,
    preferences: ArrayLike,
    threshold: float,
    statistics: Statistics,
    mapping: str = "solve",
    cost: np.ndarray | float = 0.0,
) -> Prediction:
    """Predict the gain of a soup of `rows`: what it misses less than Rewarded Soup, less what extrapolating costs.

    Args:
        regret: draws [1 + resamples] of Rewarded Soup's regret at the even preference; in gold it may be negative, if
            further training over-optimises.
        rows: [policy, objective] of the policies, trained as long as the specialists.
        preferences: [grid, objective].
        threshold: a preference is interior if no weight is below it; if none is, the even one is used.
        mapping: key of MAPPINGS: the rule from preference to coefficients.
        cost: draws [1 + resamples] of the utility lost per unit of `added_noise`; see `extrapolating`.
    """
    n = np.shape(rows)[1]
    even = np.full((1, n), 1 / n)
    preferences = np.asarray(preferences, float)
    inside = interior(preferences, threshold)
    regions = {
        "interior": preferences[inside] if inside.any() else even,
        "grid": preferences,
        "even": even,
        "vertices": np.eye(n),
    }
    shares = {name: relative_gain(rows, each, mapping) for name, each in regions.items()}
    added = {name: added_noise(rows, each, mapping) for name, each in regions.items()}
    mean, whole, middle, vertices = (
        statistics.estimate(regret * shares[name].mean() - cost * added[name].mean()) for name in regions
    )
    first = np.broadcast_to(cost, regret.shape)[0]
    # Rounding around 0, as with identity rows, is no gain.
    region = regret[0] * shares["grid"] - first * added["grid"] > 1e-9
    lost = {name: float(first * added[name].mean()) for name in ("interior", "grid", "vertices")}
    return Prediction(mean.value, mean.low, mean.high, whole, middle, vertices, float(region.mean()), lost)


def regret(even: np.ndarray, unfinished: np.ndarray) -> np.ndarray:
    """Return Rewarded Soup's regret at the even preference, in draws, from the gains of short runs.

    A short run from the even soup on its reward gains the regret, and the effect of more training; runs from the
    specialists on theirs, which lose nothing by merging, measure the latter.

    Args:
        even: gain in utility of the run from the soup, [draw].
        unfinished: gain in its own objective of the run from each specialist, [draw, objective].
    """
    return even - unfinished.mean(axis=1)


def extrapolating(lost: np.ndarray, added: float) -> np.ndarray:
    """Return the cost of extrapolation in draws: the utility lost per unit of noise that coefficients add.

    Extrapolated from two policies of one row, nothing is missed: whatever is lost there, extrapolating costs.

    Args:
        lost: by a soup of each specialist and the run from it, in that specialist's objective, [draw, objective].
        added: noise of that soup, see `method.quadratic.added_noise`.

    Returns:
        [draw]; extrapolation that happens to gain costs nothing.
    """
    return np.maximum(lost.mean(axis=1), 0) / added


def curvature(t: ArrayLike, values: np.ndarray) -> np.ndarray:
    """Return a in value(t) = value(0) - a t^2, by least squares; t [place] starts with 0, values [..., place].

    The theory's k |theta_1 - theta_2|^2 where the line starts at the policy trained for these values.
    """
    square = np.asarray(t, float) ** 2
    return (values[..., :1] - values) @ square / (square @ square)


def bend(t: ArrayLike, values: np.ndarray) -> np.ndarray:
    """Return the coefficient c [...] of the least-squares quadratic c t^2 + ... through values [..., place]."""
    design = np.vander(np.asarray(t, float), 3)
    return values @ np.linalg.pinv(design)[0]


def barrier(t: ArrayLike, values: np.ndarray) -> np.ndarray:
    """Return the deepest fall [...] of values [..., place] below the line between their ends; 0 if there is none.

    Linear mode connectivity means no fall (Frankle et al. 2020, arXiv 1912.05671).
    """
    t = np.asarray(t, float)
    chord = values[..., :1] + (values[..., -1:] - values[..., :1]) * (t - t[0]) / (t[-1] - t[0])
    return (chord - values).max(axis=-1)


def fall(values: np.ndarray) -> np.ndarray:
    """Return the largest fall [...] between neighbours of values [..., place]; 0 if they only rise."""
    return np.maximum(-np.diff(values, axis=-1), 0).max(axis=-1)


def movement(kl: float) -> str:
    """Say what a policy's KL to the SFT policy, in nats per response, means for a soup with it."""
    if kl < LITTLE:
        return "moved too little: soups hardly differ"
    if kl <= GOOD:
        return "good"
    return "far" if kl <= FAR else "too far: over-optimisation is likely"


def prompts_needed(spread: float, gain: float, confidence: float) -> int | None:
    """Return the number of prompts that detect a paired difference 4 times in 5.

    Args:
        spread: standard deviation of the difference.
        gain: its mean.
        confidence: of the interval that has to exclude 0.

    Returns:
        The number; None for no gain.
    """
    if gain == 0:
        return None
    normal = NormalDist()
    quantiles = normal.inv_cdf((1 + confidence) / 2) + normal.inv_cdf(POWER)
    return max(2, math.ceil((quantiles * spread / gain) ** 2))
