"""Preferences: points of the simplex over the objectives."""

from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import ArrayLike

from bonesoup.method.arrays import matrix

# A threshold and a weight that are equal on paper may differ by a rounding.
_SLACK = 1e-9


def lattice(n: int, parts: int) -> np.ndarray:
    """Every preference over n objectives in steps of 1 / parts.

    Integer counts are divided once, so 3/10 is the float 0.3 wherever it comes from, and the grid has exactly
    C(parts + n - 1, n - 1) points (11 for n=2, parts=10; 15 for n=3, parts=4).

    Returns:
        [grid g, objective n] in ascending order of the first weight, then the second, ...

    Raises:
        ValueError: n or parts is not a whole number of 1 or more, or the grid is too large to enumerate.
    """
    for name, value in (("n", n), ("parts", parts)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
            raise ValueError(f"{name} must be a whole number of 1 or more, found {value!r}")
    if (size := comb(int(parts + n - 1), int(n - 1))) > 1_000_000:
        raise ValueError(f"a lattice of {n} objectives in {parts} parts has {size} points: take fewer parts")
    # Stars and bars: the bars cut a row of parts + n - 1 places into n counts.
    places = parts + n - 1
    bars = np.array(list(combinations(range(places), n - 1)), dtype=int).reshape(size, n - 1)
    edges = np.pad(bars, ((0, 0), (1, 1)), constant_values=((0, 0), (-1, places)))
    return (np.diff(edges, axis=1) - 1) / parts


def interior(preferences: ArrayLike, threshold: float) -> np.ndarray:
    """Which preferences give every objective at least `threshold`.

    The paper's claim is about these; at the vertices Rewarded Soup's specialists are optimal by construction.

    Args:
        preferences: [grid g, objective n].
        threshold: smallest weight, in [0, 1]; 1e-9 below it still counts.

    Returns:
        bool [grid g].

    Raises:
        ValueError: preferences is not a finite [g, n] array, or threshold is outside [0, 1].
    """
    preferences = matrix(preferences, "preferences")
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold must be in [0, 1], found {threshold}")
    return (preferences >= threshold - _SLACK).all(axis=1)
