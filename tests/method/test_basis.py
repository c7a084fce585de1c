"""Weight rows and merging coefficients."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bonesoup.method.basis import circulant, coefficients, conditioning
from bonesoup.method.preferences import lattice

objectives = st.integers(2, 6)


@st.composite
def bases(draw):
    """Draw n and a beta well above 1/n, so that rounding stays small."""
    n = draw(objectives)
    return n, draw(st.floats(1 / n + 0.05, 1))


@st.composite
def simplex(draw, n):
    weights = np.array(draw(st.lists(st.floats(0, 1), min_size=n, max_size=n))) + 1e-3
    return weights / weights.sum()


# Worked out by hand.
@pytest.mark.parametrize(
    ("n", "beta", "main", "other"),
    [
        (2, 0.6, 3, -2),
        (2, 0.7, 1.75, -0.75),
        (2, 0.8, 4 / 3, -1 / 3),
        (3, 0.6, 2, -0.5),
        (3, 0.7, 17 / 11, -3 / 11),
        (3, 0.8, 9 / 7, -1 / 7),
    ],
)
def test_coefficients_at_a_vertex(n, beta, main, other):
    expected = np.full((n, n), other) + (main - other) * np.eye(n)
    np.testing.assert_allclose(coefficients(circulant(n, beta), np.eye(n)), expected, rtol=1e-12)


@given(bases())
def test_the_circulant(basis):
    n, beta = basis
    rows = circulant(n, beta)
    assert rows.shape == (n, n)
    np.testing.assert_array_equal(rows, rows.T)
    np.testing.assert_allclose(rows.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_array_equal(np.diag(rows), beta)
    np.testing.assert_allclose(np.linalg.cond(rows), (n - 1) / (n * beta - 1), rtol=1e-6)


@given(st.data())
def test_coefficients_reach_the_preference_and_sum_to_one(data):
    n, beta = data.draw(bases())
    rows, preference = circulant(n, beta), data.draw(simplex(n))
    solved = coefficients(rows, preference)
    np.testing.assert_allclose(rows.T @ solved, preference, atol=1e-10)
    assert solved.sum() == pytest.approx(1)


@given(st.data())
def test_renaming_the_objectives_renames_the_coefficients(data):
    n, beta = data.draw(bases())
    preference = data.draw(simplex(n))
    order = data.draw(st.permutations(range(n)))
    solved = coefficients(circulant(n, beta), preference)
    np.testing.assert_allclose(
        coefficients(circulant(n, beta), preference[list(order)]), solved[list(order)], atol=1e-9
    )


@given(objectives, st.integers(1, 6))
def test_rewarded_soup_is_beta_one(n, parts):
    grid = lattice(n, parts)
    np.testing.assert_array_equal(coefficients(circulant(n, 1), grid), grid)


def test_an_asymmetric_basis_is_solved_transposed():
    rows = np.array([[0.9, 0.1], [0.4, 0.6]])
    preference = np.array([0.3, 0.7])
    solved = coefficients(rows, preference)
    np.testing.assert_allclose(solved @ rows, preference, atol=1e-12)
    np.testing.assert_allclose(solved, [-0.2, 1.2], atol=1e-12)  # by hand: .9a + .4b = .3, .1a + .6b = .7


def test_more_policies_than_objectives_take_the_least_norm():
    rows = np.array([[1, 0], [0, 1], [0.5, 0.5]])
    preference = np.array([0.3, 0.7])
    solved = coefficients(rows, preference)
    np.testing.assert_allclose(solved @ rows, preference, atol=1e-12)
    null = np.array([0.5, 0.5, -1.0])  # adds nothing to rows^T lambda
    np.testing.assert_allclose(null @ rows, 0, atol=1e-15)
    for step in (-0.1, 0.1):
        assert np.linalg.norm(solved + step * null) > np.linalg.norm(solved)


def test_batches_and_scale():
    rows = circulant(3, 0.7)
    grid = lattice(3, 4).reshape(3, 5, 3)
    scale = np.array([1.25, 1, 2])
    solved = coefficients(rows, grid, scale)
    assert solved.shape == (3, 5, 3)
    np.testing.assert_allclose(solved.sum(axis=-1), grid @ scale)
    np.testing.assert_allclose(solved[1, 2], coefficients(rows, scale * grid[1, 2]))


@pytest.mark.parametrize("beta", [0.5, 0.4, 0, -1, 1.0001, float("nan"), float("inf"), "much", None])
def test_beta_outside_its_interval_is_refused(beta):
    with pytest.raises(ValueError, match=r"beta must be .*\(1/2, 1\]"):
        circulant(2, beta)


@pytest.mark.parametrize("n", [1, 0, 2.0, True])
def test_a_basis_needs_objectives(n):
    with pytest.raises(ValueError, match="objectives"):
        circulant(n, 0.9)


@pytest.mark.parametrize(
    ("rows", "preference", "scale", "message"),
    [
        ([[0.5, 0.5], [0.5, 0.5]], [0.3, 0.7], None, "singular"),
        (np.full((3, 3), 1 / 3), [0.3, 0.3, 0.4], None, "singular"),
        ([[1, 0], [1, 0], [1, 0]], [0.3, 0.7], None, "singular"),
        ([[0.5, 0.5]], [0.3, 0.7], None, "1 policies"),
        ([0.5, 0.5], [0.3, 0.7], None, "rows must be"),
        ([[1, 0], [0, float("nan")]], [0.3, 0.7], None, "rows has values that are not finite"),
        ([[1, 0], [0]], [0.3, 0.7], None, "rows must be numbers"),
        (np.eye(2), [0.3, float("inf")], None, "preference has values"),
        (np.eye(2), [0.3, 0.3, 0.4], None, r"preference must be \[..., 2\]"),
        (np.eye(2), 0.5, None, "preference must be"),
        (np.eye(2), [0.3, 0.7], [1, 1, 1], r"scale must be \[2\]"),
        (np.eye(2), [0.3, 0.7], [1, float("nan")], "scale has values"),
    ],
)
def test_bad_input_is_refused(rows, preference, scale, message):
    with pytest.raises(ValueError, match=message):
        coefficients(rows, preference, scale)


def test_the_method_needs_no_torch():
    code = """if True:
        import sys
        from bonesoup.method import basis, front, preferences
        grid = preferences.lattice(2, 4)
        front.hypervolume(basis.coefficients(basis.circulant(2, 0.7), grid), [-9, -9])
        heavy = {"torch", "transformers", "peft"} & set(sys.modules)
        sys.exit(f"imported {heavy}" if heavy else 0)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("n", [2, 3, 4, 5])
@pytest.mark.parametrize("beta", [0.6, 0.7, 0.8, 1.0])
def test_conditioning_of_a_circulant_is_its_closed_form(n, beta):
    condition = conditioning(circulant(n, beta))
    assert condition.condition == pytest.approx((n - 1) / (n * beta - 1))
    # One row of B^-1: its diagonal and n - 1 equal entries that sum to 1 with it.
    other = -(1 - beta) / (n * beta - 1)
    diagonal = 1 - (n - 1) * other
    assert condition.l1 == pytest.approx(diagonal + (n - 1) * abs(other))
    assert condition.l2 == pytest.approx(np.sqrt(diagonal**2 + (n - 1) * other**2))
    assert condition.l1_even == pytest.approx(1)


def test_the_smallest_published_beta_is_not_loud_and_a_smaller_one_is():
    assert not conditioning(circulant(2, 0.6)).loud
    assert conditioning(circulant(2, 0.55)).loud


def test_more_policies_than_objectives_need_smaller_coefficients():
    """An even policy between two backbones takes weight where theirs would cancel: least norm, exact reach."""
    rows = np.vstack([circulant(2, 0.7), [[0.5, 0.5]], np.eye(2)])
    preference = np.array([[0.8, 0.2], [0.5, 0.5], [0.1, 0.9]])
    solved = coefficients(rows, preference)
    np.testing.assert_allclose(solved @ rows, preference, atol=1e-12)
    assert conditioning(rows).l2 < conditioning(circulant(2, 0.7)).l2
    # Of all solutions the shortest: any step in the null space of rows^T makes it longer.
    null = np.linalg.svd(rows.T)[2][2:]
    assert (np.abs(solved @ null.T) < 1e-12).all()
