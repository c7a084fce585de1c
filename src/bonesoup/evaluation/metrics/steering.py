"""Measure how answers follow the weights: their order, and how much each quantity moves."""

import numpy as np
from scipy.stats import rankdata


def rank_correlation(points: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Return Spearman's correlation of each objective's weight and reward over the grid, [draw, objective].

    0 for a reward that does not change.

    Args:
        points: [draw, grid, objective].
        grid: preferences [grid, objective].

    Source: Spearman 1904; ties get their mean rank.
    """
    asked, came = (_centred(rankdata(values, axis=-2)) for values in (grid, points))
    sizes = np.linalg.norm(asked, axis=-2) * np.linalg.norm(came, axis=-2)
    return (asked * came).sum(axis=-2) / np.where(sizes == 0, 1, sizes)


def moved(values: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Return how much quantities change as a weight goes from 0 to 1 and the others share what is left.

    It is the slope of the least-squares line over the grid.

    Args:
        values: [draw, grid, quantity], such as rewards, KL and tokens.
        grid: preferences [grid, objective], more than one.

    Returns:
        [draw, objective, quantity].
    """
    asked = _centred(grid)
    return np.einsum("gi,dgq->diq", asked, values) / (asked**2).sum(axis=0)[:, None]


def _centred(values: np.ndarray) -> np.ndarray:
    return values - values.mean(axis=-2, keepdims=True)
