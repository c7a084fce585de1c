"""Bootstrap over prompts: one set of resamples for every method, so that differences are paired.

The intervals cover the noise of the evaluation prompts. Training seeds vary a result several times as much
(docs/evidence.md) and need further runs.
"""

from dataclasses import asdict, dataclass, replace

import numpy as np

from bonesoup.settings.schema import Settings


@dataclass(frozen=True)
class Estimate:
    """A number and its percentile bootstrap interval."""

    value: float
    low: float
    high: float

    def plain(self) -> dict[str, float]:
        """Return {"value", "low", "high"}."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Band:
    """An Estimate per grid point, as arrays [grid]; the intervals are pointwise."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class Statistics:
    """The settings for all estimates.

    Attributes:
        bootstrap: resamples of prompts.
        confidence: level of the percentile intervals.
        seed: seed of the resamples.
    """

    bootstrap: int
    confidence: float
    seed: int

    @classmethod
    def of(cls, settings: Settings) -> "Statistics":
        """Take those of a run."""
        return cls(settings.evaluation.bootstrap, settings.evaluation.confidence, settings.seed)

    def shared(self, comparisons: int) -> "Statistics":
        """Share the confidence among several comparisons, so that it holds for all of them at once (Bonferroni)."""
        return replace(self, confidence=1 - (1 - self.confidence) / max(1, comparisons))

    def weights(self, prompts: int) -> np.ndarray:
        """Draw weights [1 + resamples, prompts]: the plain mean first, then each resample; every row sums to 1."""
        rng = np.random.default_rng(self.seed)
        counts = rng.multinomial(prompts, np.full(prompts, 1 / prompts), size=self.bootstrap)
        return np.vstack([np.ones(prompts), counts]) / prompts

    def interval(self, draws: np.ndarray) -> np.ndarray:
        """Return the percentiles [2, ...] of draws[1:]; draws[0] is the sample's value."""
        tail = (1 - self.confidence) / 2
        return np.quantile(draws[1:], [tail, 1 - tail], axis=0)

    def lower_limits(self, scores: np.ndarray) -> np.ndarray:
        """Return lower limits of the means over prompts of scores [prompt, ...], which hold for all of them at once.

        One multiple of the standard error is subtracted from every mean: the quantile, over resamples, of the largest
        studentised error among the means. A choice made by looking at the limits is therefore covered too. Scores
        that are the same for every prompt show no noise: their limit is their mean. -inf where the prompts are too few.

        Source: Hall 1988 (Theoretical comparison of bootstrap confidence intervals); Romano and Wolf 2005 (Stepwise
        multiple testing as formalized data snooping), for the largest of several errors.
        """
        if len(scores) < 2:
            return np.full(scores.shape[1:], -np.inf)
        flat = scores.reshape(len(scores), -1)
        varies = np.ptp(flat, axis=0) > 0
        limits = flat.mean(axis=0)
        if varies.any():
            centred = flat[:, varies] - limits[varies]
            weights = self.weights(len(flat))[1:]
            shifts = weights @ centred
            spreads = np.sqrt(np.maximum(weights @ centred**2 - shifts**2, 0))
            # A resample of equal scores has no spread: its error is infinite, or 0 / 0 if its mean is exact.
            with np.errstate(divide="ignore", invalid="ignore"):
                errors = np.nan_to_num(shifts / spreads, nan=0, posinf=np.inf, neginf=-np.inf)
            largest = np.quantile(errors.max(axis=1), self.confidence, method="higher")
            limits[varies] -= largest * centred.std(axis=0)
        return limits.reshape(scores.shape[1:])

    def estimate(self, draws: np.ndarray) -> Estimate:
        """Summarise draws [1 + resamples], the sample's value first."""
        low, high = self.interval(draws)
        return Estimate(float(draws[0]), float(low), float(high))

    def band(self, draws: np.ndarray) -> Band:
        """Summarise draws [1 + resamples, grid], point by point."""
        low, high = self.interval(draws)
        return Band(draws[0], low, high)


def resampled_means(weights: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return the means over prompts [draw, ...] of scores [prompt, ...] under weights [draw, prompt]."""
    flat = weights @ scores.reshape(len(scores), -1)
    return flat.reshape(len(weights), *scores.shape[1:])
