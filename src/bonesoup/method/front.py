"""Metrics of a front: what a method reaches over a grid of preferences. All objectives are maximised.

points is [grid g, objective n], in units of the reward's standard deviation on SFT samples; preferences is
[grid g, objective n], row for row. Bad shapes and values that are not finite raise ValueError everywhere.
"""

import numpy as np
from numpy.typing import ArrayLike

from bonesoup.method.arrays import finite, matrix


def nondominated(points: ArrayLike) -> np.ndarray:
    """Mark the points that no other point dominates (as good in every objective, better in one).

    The comparison is exact; of equal points all stay. Measured points carry noise, so one may be dominated by
    less than its own error: do not read a single dominated point as a defect.

    Returns:
        bool [grid g].

    Source: Pareto dominance (Miettinen 1999, Nonlinear Multiobjective Optimization).
    """
    points = matrix(points, "points")
    no_worse = np.ones((len(points), len(points)), dtype=bool)
    for column in points.T:
        no_worse &= column[:, None] >= column
    return ~(no_worse & ~no_worse.T).any(axis=0)


def hypervolume(points: ArrayLike, reference: ArrayLike) -> float:
    """Return the volume between the front and a reference point; only points above it in every objective count.

    The units are products of the objectives' units. Ratios of hypervolumes move with the reference point: fix
    it beforehand, print it, show a second one. It rewards reach at the ends as much as quality in the middle,
    and does not tell whether the requested point was delivered.

    Args:
        points: [grid g, objective n].
        reference: [objective n].

    Source: Zitzler and Thiele 1998 (PPSN V); computed exactly by moocore (Fonseca et al. 2006).
    """
    points = matrix(points, "points")
    reference = finite(reference, "reference")
    if reference.shape != points.shape[1:]:
        raise ValueError(
            f"reference must be [{points.shape[1]}], one value per objective, found shape {list(reference.shape)}"
        )
    import moocore

    return float(moocore.hypervolume(-points, ref=-reference))


def inner_product(preferences: ArrayLike, points: ArrayLike) -> float:
    """Average mu . R(mu) over the grid: the mean utility of users with linear preferences.

    It depends on the reward scale and on the grid: many grid points at the edge favour specialists. A front
    that ignores the preference can score well where the objectives do not conflict.

    Source: expected utility (Zintgraf et al. 2015; Hayes et al. 2022, A practical guide to multi-objective
    reinforcement learning and planning).
    """
    preferences, points = _pair(preferences, points)
    return float((preferences * points).sum(axis=1).mean())


def controllability(preferences: ArrayLike, points: ArrayLike) -> float:
    """Return the share of demands met: of all (a, b, i) with mu_a,i > mu_b,i, those with R_i(a) > R_i(b).

    1 is a front that follows the preference everywhere, 0.5 is chance, 0 one that never moves (ties are not
    met). It sees order only: a front that moves by less than anyone can notice scores as well as a wide one.

    Raises:
        ValueError: malformed arrays, or no two preferences differ, so that nothing is demanded.

    Source: Bone Soups (arXiv 2502.10762), controllability; the pairwise order of Kendall 1938.
    """
    preferences, points = _pair(preferences, points)
    asked = preferences[:, None] > preferences
    if not asked.any():
        raise ValueError("controllability needs two preferences that differ, found none")
    return float((points[:, None] > points)[asked].mean())


def cardinality(points: ArrayLike) -> int:
    """Count the non-dominated points, equal ones separately.

    It is bounded by the grid and flips on noise; a poor front in one long line has the largest cardinality.

    Source: Van Veldhuizen 1999 (overall non-dominated vector generation).
    """
    return int(nondominated(points).sum())


def sparsity(points: ArrayLike) -> float:
    """Sum the squared gaps between neighbours in each objective over (count - 1) of non-dominated points.

    Lower is denser; 0 for one point. Each objective is sorted separately, so beyond two objectives the
    gaps are not between neighbours of the front. A front shrunk to a dot is the densest of all.

    Source: PGMORL (Xu et al. 2020, ICML).
    """
    points = matrix(points, "points")
    front = points[nondominated(points)]
    if len(front) < 2:
        return 0.0
    return float((np.diff(np.sort(front, axis=0), axis=0) ** 2).sum() / (len(front) - 1))


def spacing(points: ArrayLike) -> float:
    """Return the standard deviation (ddof 1) of the L1 distance to the nearest other non-dominated point.

    0 is an even front; also 0 for fewer than three points. Only the nearest neighbour counts: a front in
    pairs far apart, or of equal points, looks even.

    Source: Schott 1995 (Fault tolerant design using single and multicriteria genetic algorithm optimization).
    """
    points = matrix(points, "points")
    front = points[nondominated(points)]
    if len(front) < 3:
        return 0.0
    distance = np.abs(front[:, None] - front).sum(axis=2)
    np.fill_diagonal(distance, np.inf)
    return float(distance.min(axis=1).std(ddof=1))


def _pair(preferences: ArrayLike, points: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    preferences, points = matrix(preferences, "preferences"), matrix(points, "points")
    if preferences.shape != points.shape:
        raise ValueError(
            f"preferences {list(preferences.shape)} and points {list(points.shape)} must match row for row"
        )
    return preferences, points
