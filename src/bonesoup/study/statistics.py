"""Compare two methods over training seeds, paired by seed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Mean:
    """A mean over seeds.

    half: of its two-sided t interval; None for a single seed. effect: mean over standard
    deviation, for differences Cohen's d_z (Cohen 1988, 2.3); None for one seed, or where seeds do not vary.
    """

    seeds: int
    value: float
    half: float | None
    effect: float | None

    @property
    def sign(self) -> int:
        """Return 1 or -1 if the interval excludes 0, else 0."""
        return 0 if self.half is None or abs(self.value) <= self.half else int(np.sign(self.value))


def mean(values: Sequence[float]) -> Mean:
    """Average one value per seed, with its t interval; on paired differences this is the paired t interval."""
    count, value = len(values), float(np.mean(values))
    if count == 1:
        return Mean(1, value, None, None)
    spread = float(np.std(values, ddof=1))
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1)) * spread / count**0.5
    return Mean(count, value, half, value / spread if spread > 0 else None)


def geometric(ratios: Sequence[float]) -> tuple[float, float, float] | None:
    """Return the geometric mean and the t interval of the logarithms; None if a ratio is not positive."""
    if min(ratios) <= 0:
        return None
    average = mean(np.log(ratios))
    half = average.half or 0.0
    return tuple(float(np.exp(average.value + side * half)) for side in (0, -1, 1))
