"""Forecast from lines between policies and short runs what a Bone Soup that is not trained yet will gain.

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
from bonesoup.method.quadratic import relative_gain

# Nats per response between which soups were seen to work: below, Rewarded Soup is near the oracle already; above,
# negative coefficients extrapolate into answers that only the learned reward likes.
LITTLE, GOOD, FAR = 1.0, 5.0, 7.0
# Chance of telling a gain of the predicted size from none, for the number of prompts.
POWER = 0.8


@dataclass(frozen=True)
class Prediction:
    """What a soup gains over Rewarded Soup, in mean utility (preference times score), with its interval.

    Attributes:
        gain, low, high: averaged over interior preferences.
        grid: averaged over the whole grid.
        even, vertices: at the even preference, and averaged over the vertices.
        region: share of the grid's preferences at which it gains.
    """

    gain: float
    low: float
    high: float
    grid: Estimate
    even: Estimate
    vertices: Estimate
    region: float

    @property
    def wins(self) -> bool:
        return self.low > 0

    @property
    def verdict(self) -> str:
        """win, lose, or tie where the interval holds 0."""
        return "win" if self.wins else "lose" if self.high < 0 else "tie"


def predict(
    room: np.ndarray,
    rows: ArrayLike,
    preferences: ArrayLike,
    threshold: float,
    statistics: Statistics,
    mapping: str = "solve",
) -> Prediction:
    """The gain of a soup of `rows`, from what Rewarded Soup misses at the even preference.

    Args:
        room: draws [1 + resamples] of Rewarded Soup's regret at the even preference; in gold it may be negative, where
            what training still finds is over-optimised.
        rows: [policy, objective] of the policies, trained as long as the specialists.
        preferences: [grid, objective].
        threshold: a preference is interior when no weight is below it; the even one stands in where none is.
        mapping: from a preference to coefficients, a key of MAPPINGS.
    """
    n = np.shape(rows)[1]
    even = np.full((1, n), 1 / n)
    preferences = np.asarray(preferences, float)
    inside = interior(preferences, threshold)
    profile = relative_gain(rows, preferences, mapping)
    shares = [
        relative_gain(rows, preferences[inside] if inside.any() else even, mapping).mean(),
        profile.mean(),
        relative_gain(rows, even, mapping)[0],
        relative_gain(rows, np.eye(n), mapping).mean(),
    ]
    mean, whole, middle, vertices = (statistics.estimate(room * share) for share in shares)
    # A rounding away from 0, as with rows that are the identity's, is no gain.
    gains = np.sign(room[0]) * profile > 1e-9
    return Prediction(mean.value, mean.low, mean.high, whole, middle, vertices, float(gains.mean()))


def room(even: np.ndarray, unfinished: np.ndarray) -> np.ndarray:
    """Regret of Rewarded Soup at the even preference, in draws, from what short runs still gain.

    A short run from the even soup on its own reward gains what the soup misses, and what any more training would:
    runs from the specialists on theirs, which miss nothing by merging, measure the latter.

    Args:
        even: gain in utility of the run from the soup, [draw].
        unfinished: gain in its own objective of the run from each specialist, [draw, objective].
    """
    return even - unfinished.mean(axis=1)


def curvature(t: ArrayLike, values: np.ndarray) -> np.ndarray:
    """a in value(t) = value(0) - a t^2, by least squares in t^2; t [place], starting with 0; values [..., place].

    The theory's k |theta_1 - theta_2|^2 where the line starts at the policy trained for these values.
    """
    square = np.asarray(t, float) ** 2
    return (values[..., :1] - values) @ square / (square @ square)


def bend(t: ArrayLike, values: np.ndarray) -> np.ndarray:
    """Second-order coefficient c [...] of the least-squares quadratic c t^2 + ... through values [..., place]."""
    design = np.vander(np.asarray(t, float), 3)
    return values @ np.linalg.pinv(design)[0]


def barrier(t: ArrayLike, values: np.ndarray) -> np.ndarray:
    """Deepest fall [...] of values [..., place] below the straight line between its ends; 0 where it stays above.

    Linear mode connectivity asks for none (Frankle et al. 2020, arXiv 1912.05671).
    """
    t = np.asarray(t, float)
    chord = values[..., :1] + (values[..., -1:] - values[..., :1]) * (t - t[0]) / (t[-1] - t[0])
    return (chord - values).max(axis=-1)


def fall(values: np.ndarray) -> np.ndarray:
    """Largest fall [...] between neighbours of values [..., place]; 0 where they only rise."""
    return np.maximum(-np.diff(values, axis=-1), 0).max(axis=-1)


def movement(kl: float) -> str:
    """What a policy's KL to the SFT policy, in nats per response, means for a soup of it."""
    if kl < LITTLE:
        return "moved too little: soups hardly differ"
    if kl <= GOOD:
        return "good"
    return "far" if kl <= FAR else "too far: over-optimisation is likely"


def prompts_needed(spread: float, gain: float, confidence: float) -> int | None:
    """How many prompts tell a paired difference of mean `gain` and standard deviation `spread` from 0, 4 times in 5.

    None for no gain.
    """
    if gain == 0:
        return None
    normal = NormalDist()
    quantiles = normal.inv_cdf((1 + confidence) / 2) + normal.inv_cdf(POWER)
    return max(2, math.ceil((quantiles * spread / gain) ** 2))
