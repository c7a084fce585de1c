"""Preference grids."""

from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bonesoup.method.preferences import interior, lattice


@given(st.integers(1, 5), st.integers(1, 8))
def test_the_lattice_is_every_count_once(n, parts):
    grid = lattice(n, parts)
    assert grid.shape == (comb(parts + n - 1, n - 1), n)
    counts = np.rint(grid * parts)
    np.testing.assert_array_equal(counts / parts, grid)
    assert (counts >= 0).all()
    assert (counts.sum(axis=1) == parts).all()
    assert [tuple(row) for row in counts] == sorted({tuple(row) for row in counts})


def test_the_grids_of_the_paper():
    """11 points for two objectives; three have 15, the nearest lattice to its 13 hand-picked ones."""
    grid = lattice(2, 10)
    assert grid.shape == (11, 2)
    assert grid[3].tolist() == [0.3, 0.7]  # 3 * 0.1 would be 0.30000000000000004
    assert lattice(3, 4).shape == (15, 3)


@pytest.mark.parametrize(("n", "parts"), [(0, 4), (2, 0), (2, 2.5), (2, -1), (2, True), ("2", 4)])
def test_grids_of_no_size_are_refused(n, parts):
    with pytest.raises(ValueError, match="whole number"):
        lattice(n, parts)


def test_a_grid_too_large_to_hold_is_refused():
    with pytest.raises(ValueError, match="fewer parts"):
        lattice(10, 100)


def test_interior_counts_weights_at_the_threshold():
    grid = lattice(2, 10)
    assert interior(grid, 0.2).tolist() == [False] * 2 + [True] * 7 + [False] * 2
    assert interior(grid, 0.1 + 0.2).sum() == 5  # 0.30000000000000004 keeps 0.3
    assert interior(grid, 0).all()
    assert interior(lattice(3, 4), 0.25).sum() == 3


@given(st.integers(2, 4), st.integers(1, 6), st.floats(0, 1), st.floats(0, 1))
def test_a_higher_threshold_keeps_fewer(n, parts, a, b):
    grid = lattice(n, parts)
    low, high = interior(grid, min(a, b)), interior(grid, max(a, b))
    assert (low | ~high).all()


@pytest.mark.parametrize(
    ("preferences", "threshold", "message"),
    [
        ([0.5, 0.5], 0.1, "two-dimensional"),
        ([[0.5, float("nan")]], 0.1, "not finite"),
        ([[0.5, 0.5]], 1.5, "threshold"),
        ([[0.5, 0.5]], float("nan"), "threshold"),
    ],
)
def test_bad_input_is_refused(preferences, threshold, message):
    with pytest.raises(ValueError, match=message):
        interior(preferences, threshold)
