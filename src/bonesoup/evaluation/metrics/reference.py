"""Show how far a comparison of hypervolumes depends on the reference point."""

from collections.abc import Mapping, Sequence

import numpy as np

from bonesoup.method.front import hypervolume, nondominated

# Distances of the reference points below the worst of the union front, in shares of its range.
SHARES = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0)


def reference_points(fronts: Sequence[np.ndarray]) -> np.ndarray:
    """Return reference points [share, objective], from the worst values on the union of all fronts downwards.

    Args:
        fronts: points [grid, objective] of each method.
    """
    every = np.concatenate(list(fronts))
    union = every[nondominated(every)]
    worst, best = union.min(axis=0), union.max(axis=0)
    return worst - np.array(SHARES)[:, None] * (best - worst)


def hypervolume_ratios(
    fronts: Mapping[str, np.ndarray], baseline: str, references: np.ndarray
) -> dict[str, list[float | None]]:
    """Return each front's hypervolume over the baseline's at every reference point; None if the baseline's is 0.

    Args:
        fronts: {method: points [grid, objective]}.
        references: [reference, objective].
    """
    volumes = {method: [hypervolume(front, each) for each in references] for method, front in fronts.items()}
    return {
        method: [volume / base if base else None for volume, base in zip(listed, volumes[baseline], strict=True)]
        for method, listed in volumes.items()
    }
