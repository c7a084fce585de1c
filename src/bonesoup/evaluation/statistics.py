"""Bootstrap over prompts: one set of resamples for every method, so that differences are paired.

The noise it measures is that of the evaluation prompts. Training seeds vary a result several times as much
(docs/evidence.md) and need runs of their own.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Estimate:
    """A number and its percentile bootstrap interval."""

    value: float
    low: float
    high: float

    @property
    def distinguishable(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, eq=False)
class Band:
    """One Estimate per grid point, as arrays [grid]; pointwise intervals."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


def resample_weights(prompts: int, resamples: int, seed: int) -> np.ndarray:
    """Weights [1 + resamples, prompts]: the plain mean first, then each resample; every row sums to 1."""
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(prompts, np.full(prompts, 1 / prompts), size=resamples)
    return np.vstack([np.ones(prompts), counts]) / prompts


def resampled_means(weights: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Means over prompts [draw, ...] of scores [prompt, ...] under weights [draw, prompt]."""
    flat = weights @ scores.reshape(len(scores), -1)
    return flat.reshape(len(weights), *scores.shape[1:])


def estimate(draws: np.ndarray, confidence: float) -> Estimate:
    """Draws [1 + resamples], the sample's own value first, to an estimate."""
    low, high = percentile_interval(draws, confidence)
    return Estimate(float(draws[0]), float(low), float(high))


def band(draws: np.ndarray, confidence: float) -> Band:
    """Draws [1 + resamples, grid] to a band over the grid."""
    low, high = percentile_interval(draws, confidence)
    return Band(draws[0], low, high)


def percentile_interval(draws: np.ndarray, confidence: float) -> np.ndarray:
    """Percentiles [2, ...] of draws[1:]; draws[0] is the estimate itself."""
    tail = (1 - confidence) / 2
    return np.quantile(draws[1:], [tail, 1 - tail], axis=0)
