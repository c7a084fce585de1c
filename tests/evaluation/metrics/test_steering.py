"""Order and movement, against SciPy and straight fronts."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from bonesoup.evaluation.metrics.steering import moved, rank_correlation
from bonesoup.method.preferences import lattice


@pytest.mark.parametrize(("n", "parts"), [(2, 10), (3, 4)])
def test_rank_correlation_is_that_of_scipy(n, parts):
    grid = lattice(n, parts)
    points = grid + np.random.default_rng(0).normal(0, 0.4, (3, *grid.shape))
    expected = [[spearmanr(grid[:, i], draw[:, i]).statistic for i in range(n)] for draw in points]
    np.testing.assert_allclose(rank_correlation(points, grid), expected)


def test_an_order_that_is_kept_turned_or_absent():
    grid = lattice(2, 10)
    kept, turned, still = np.exp(3 * grid), -grid, np.zeros(grid.shape)
    found = rank_correlation(np.stack([kept, turned, still]), grid)
    np.testing.assert_allclose(found, [[1, 1], [-1, -1], [0, 0]], atol=1e-12)


@pytest.mark.parametrize(("n", "parts"), [(2, 10), (3, 6)])
def test_movement_on_a_straight_front(n, parts):
    """R = mu A: from weight 0 to 1 the others fall from 1 / (n - 1) each to 0."""
    grid = lattice(n, parts)
    slope = np.random.default_rng(1).normal(size=(n, n + 1))
    expected = slope - (slope.sum(axis=0) - slope) / (n - 1)
    np.testing.assert_allclose(moved((grid @ slope)[None], grid)[0], expected, atol=1e-9)
