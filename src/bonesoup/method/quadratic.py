"""Regret of soups if every objective is a quadratic: the theory of what Bone Soup can gain.

Objective i is r_i(theta) = psi_i - k_i |theta - theta_i*|^2. A policy trained on a row w of reward weights stands at
the optimum of w . r; a soup is a combination of policies; its regret at a preference is the reward it loses there
compared with the optimum for that preference. `spread` is |theta_1* - theta_2*|^2 / 4 throughout.

With scalar curvatures everything is exact. `error_shape` is for curvatures that differ between directions (matrices),
any number of objectives and any rows, to leading order in how far the curvatures differ.
"""

import numpy as np
from numpy.typing import ArrayLike

from bonesoup.method.arrays import matrix
from bonesoup.method.beta import pair_overlaps
from bonesoup.method.mappings import MAPPINGS


def asymmetry(k1: ArrayLike, k2: ArrayLike) -> np.ndarray:
    """Return d = (k1 - k2) / (k1 + k2), in [-1, 1]; 0 if merging specialists is optimal, as for two flat objectives."""
    k1, k2 = np.asarray(k1, float), np.asarray(k2, float)
    return (k1 - k2) / np.where(k1 + k2 == 0, 1, k1 + k2)


def regret_rewarded(k1: ArrayLike, k2: ArrayLike, spread: ArrayLike, mu: ArrayLike) -> np.ndarray:
    """Return the regret of Rewarded Soup, the mixture of the two specialists, at the preference (mu, 1 - mu)."""
    return regret_bone(k1, k2, spread, 1.0, mu)


def regret_bone(k1: ArrayLike, k2: ArrayLike, spread: ArrayLike, beta: float, mu: ArrayLike) -> np.ndarray:
    """Return the regret of Bone Soup with the circulant of `beta` at (mu, 1 - mu); beta = 1 is Rewarded Soup."""
    k1, k2, mu = (np.asarray(value, float) for value in (k1, k2, mu))
    d, b, x = asymmetry(k1, k2), 2 * beta - 1, 2 * mu - 1
    # At the vertex of a flat objective (d x = -1) nothing can be lost.
    bend = np.where(1 + d * x == 0, 1, 1 + d * x)
    error = d * (1 - d**2) * (b**2 - x**2) / ((1 - d**2 * b**2) * bend) if beta < 1 else d * (1 - x**2) / bend
    return (mu * k1 + (1 - mu) * k2) * spread * error**2


def win_region(k1: ArrayLike, k2: ArrayLike, beta: float) -> np.ndarray:
    """Return s: Bone Soup has the smaller regret exactly if |2 mu - 1| < s (and k1 != k2, beta < 1).

    With nearly equal curvatures it is sqrt(2 beta^2 - 2 beta + 1), Theorem 1 of the paper (arXiv 2502.10762), and never
    less.
    """
    d, b = asymmetry(k1, k2), 2 * beta - 1
    c = (1 - d**2) / (1 - d**2 * b**2)
    return np.sqrt((1 + c * b**2) / (1 + c))


def error_shape(rows: ArrayLike, preferences: ArrayLike, mapping: str = "solve") -> np.ndarray:
    """Return the expected regret of a soup of the policies of `rows`, up to a factor common to all soups.

    To leading order the policy of a row w is off the straight combination of the specialists by the sum over pairs
    i < j of w_i w_j v_ij, with v_ij = H^-1 (H_i - H_j) (theta_i* - theta_j*) for curvature matrices H_i near H. A soup
    is off by the difference between these terms for the preference and for its policies. Regret goes with the square,
    taken here for equal and independent objectives, for which v_ij and v_ik have correlation 1/4.

    Args:
        rows: [policy, objective]; the identity is Rewarded Soup.
        preferences: [grid, objective].
        mapping: key of MAPPINGS: the rule from preference to coefficients.

    Returns:
        [grid]; for two objectives and a circulant (b^2 - x^2)^2 / 16, with b = 2 beta - 1 and x = 2 mu - 1.
    """
    rows, preferences = matrix(rows, "rows"), matrix(preferences, "preferences")
    weights = _coefficients(rows, preferences, mapping)
    first, second = np.triu_indices(rows.shape[1], 1)
    missed = preferences[:, first] * preferences[:, second] - weights @ (rows[:, first] * rows[:, second])
    return np.einsum("gp,pq,gq->g", missed, pair_overlaps(rows.shape[1]), missed)


def relative_gain(rows: ArrayLike, preferences: ArrayLike, mapping: str = "solve") -> np.ndarray:
    """Return the gain of a soup over Rewarded Soup [grid], as shares of the latter's regret at the even preference.

    Negative where it loses: at the vertices the specialists are optimal by construction.
    """
    n = matrix(rows, "rows").shape[1]
    even = error_shape(np.eye(n), np.full((1, n), 1 / n))[0]
    return (error_shape(np.eye(n), preferences) - error_shape(rows, preferences, mapping)) / even


def added_noise(rows: ArrayLike, preferences: ArrayLike, mapping: str = "solve") -> np.ndarray:
    """Return the variance that a soup's coefficients add to the noise of a policy's training [grid], in units of it.

    Policies that are trained apart have independent noise, so a soup has sum_j lambda_j^2 times that of one policy. 0
    for a mixture, whose noise is no larger, and at the vertices (1/b^2 - 1)/2 for Bone Soup with two objectives and
    b = 2 beta - 1. The corrections of a Curved Soup are trained for half as long, and have half the variance.

    Args:
        rows, preferences, mapping: see `error_shape`; preferences on the simplex.
    """
    rows, preferences = matrix(rows, "rows"), matrix(preferences, "preferences")
    corrections = ~np.isclose(rows.max(axis=1), 1) if mapping == "curved" else np.zeros(len(rows), bool)
    variances = np.where(corrections, 0.5, 1.0)
    return np.maximum(_coefficients(rows, preferences, mapping) ** 2 @ variances - 1, 0)


def _coefficients(rows: np.ndarray, preferences: np.ndarray, mapping: str) -> np.ndarray:
    return np.array([MAPPINGS[mapping].coefficients(rows, each, None) for each in preferences])


def penalised_share(curvature: ArrayLike, extra: ArrayLike) -> np.ndarray:
    """Return the share of a regret that remains if a penalty adds the curvature `extra` to every objective.

    Penalised towards one point (KL to the SFT policy), the optima draw together by K / (K + extra), the asymmetry
    shrinks by the same, and the curvature grows by its inverse: the third power, for nearly equal curvatures K.
    """
    curvature = np.asarray(curvature, float)
    return (curvature / (curvature + np.asarray(extra, float))) ** 3
