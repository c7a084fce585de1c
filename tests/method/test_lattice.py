"""Soups of degree two: rows on a lattice, coefficients that meet second moments, and beta by theory."""

from math import comb

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from bonesoup.method.basis import circulant, coefficients, compromise, conditioning, lattice_rows
from bonesoup.method.beta import best_beta, best_beta_dirichlet
from bonesoup.method.mappings import MAPPINGS, curved, piecewise
from bonesoup.method.methods import METHODS
from bonesoup.method.preferences import interior, lattice
from bonesoup.method.quadratic import error_shape

objectives = st.integers(2, 5)


@st.composite
def simplex(draw, n):
    weights = np.array(draw(st.lists(st.floats(0, 1), min_size=n, max_size=n))) + 1e-3
    return weights / weights.sum()


def moments(rows, weights):
    """Compute sum_j lambda_j b_j b_j^T."""
    return np.einsum("j,ji,jk->ik", weights, rows, rows)


@given(objectives)
def test_degree_one_is_rewarded_soup_and_inset_bone_soup(n):
    np.testing.assert_array_equal(lattice_rows(n), np.eye(n))
    for beta in (0.6, 0.7, 0.8):
        np.testing.assert_allclose(lattice_rows(n, 1, (n * beta - 1) / (n - 1)), circulant(n, beta), atol=1e-15)


@given(objectives, st.integers(1, 3), st.floats(0.1, 1))
def test_rows_are_on_the_simplex_around_the_even_preference(n, degree, inset):
    rows = lattice_rows(n, degree, inset)
    assert rows.shape == (comb(degree + n - 1, n - 1), n)
    np.testing.assert_allclose(rows.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(rows.mean(axis=0), 1 / n, rtol=1e-12)
    assert len(np.unique(rows.round(9), axis=0)) == len(rows)
    assert rows.max() == pytest.approx((1 - inset) / n + inset)


@given(st.data())
def test_degree_two_meets_the_preference_and_its_second_moments(data):
    n = data.draw(objectives)
    mu = data.draw(simplex(n))
    rows = lattice_rows(n, 2)
    solved = coefficients(rows, mu, degree=2)
    np.testing.assert_allclose(rows.T @ solved, mu, atol=1e-12)
    np.testing.assert_allclose(moments(rows, solved), np.outer(mu, mu), atol=1e-12)
    # The quadratic Lagrange element in closed form.
    closed = [
        mu[row.argmax()] * (2 * mu[row.argmax()] - 1) if row.max() == 1 else 4 * mu[row > 0].prod() for row in rows
    ]
    np.testing.assert_allclose(solved, closed, atol=1e-12)


@given(st.data())
def test_a_policy_of_the_very_row_answers_alone(data):
    n = data.draw(objectives)
    rows = lattice_rows(n, 2, data.draw(st.floats(0.5, 1)))
    np.testing.assert_allclose(coefficients(rows, rows, degree=2), np.eye(len(rows)), atol=1e-10)


@given(st.data())
def test_degree_two_is_exact_on_policies_that_are_quadratic_in_their_row(data):
    """theta(b) = constant + linear + quadratic in b is reproduced at every preference: what degree two means."""
    n = data.draw(objectives)
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    linear, square = rng.normal(size=n), rng.normal(size=(n, n))

    def theta(b):
        return b @ linear + np.einsum("...i,ij,...j->...", b, square, b)

    mu = data.draw(simplex(n))
    rows = lattice_rows(n, 2, 0.8)
    assert coefficients(rows, mu, degree=2) @ theta(rows) == pytest.approx(theta(mu), abs=1e-9)


def test_an_extrapolated_preference_scales_the_change_and_does_not_square_it():
    rows, mu = lattice_rows(3, 2), np.array([0.5, 0.3, 0.2])
    plain = coefficients(rows, mu, degree=2)
    np.testing.assert_allclose(coefficients(rows, mu, np.full(3, 1.5), degree=2), 1.5 * plain, atol=1e-12)
    scale = np.array([1.5, 1, 2])
    solved, total = coefficients(rows, mu, scale, degree=2), (scale * mu).sum()
    np.testing.assert_allclose(solved, total * coefficients(rows, scale * mu / total, degree=2), atol=1e-12)


@given(st.data())
def test_noise_goes_from_degree_two_to_least_norm(data):
    rows = np.vstack([lattice_rows(3, 2), [[0.2, 0.3, 0.5]]])
    mu = data.draw(simplex(3))
    exact, least = coefficients(rows, mu, degree=2), coefficients(rows, mu)
    np.testing.assert_allclose(coefficients(rows, mu, degree=2, noise=1e-12), exact, atol=1e-6)
    np.testing.assert_allclose(coefficients(rows, mu, degree=2, noise=1e9), least, atol=1e-6)
    missed, norms = [], []
    for noise in (1e-6, 1e-3, 1e-1, 1, 10):
        solved = coefficients(rows, mu, degree=2, noise=noise)
        np.testing.assert_allclose(rows.T @ solved, mu, atol=1e-10)
        missed.append(np.linalg.norm(moments(rows, solved) - np.outer(mu, mu)))
        norms.append(np.linalg.norm(solved))
    assert (np.diff(missed) > -1e-9).all()
    assert (np.diff(norms) < 1e-9).all()


def test_noise_solves_the_stated_problem():
    """Against a plain optimum: no step within rows^T lambda = mu lowers |missed|^2 + noise |lambda|^2."""
    rows = np.vstack([lattice_rows(3, 2, 0.7), np.eye(3)])
    mu, noise = np.array([0.5, 0.4, 0.1]), 0.02

    def loss(weights):
        return np.linalg.norm(moments(rows, weights) - np.outer(mu, mu)) ** 2 + noise * weights @ weights

    solved = coefficients(rows, mu, degree=2, noise=noise)
    for step in np.linalg.svd(rows.T)[2][3:]:
        assert min(loss(solved + 1e-4 * step), loss(solved - 1e-4 * step)) > loss(solved)


@pytest.mark.parametrize(("n", "l1"), [(2, 1.25), (3, 1.66), (4, 2.0)])
def test_norms_of_degree_two(n, l1):
    condition = conditioning(lattice_rows(n, 2), degree=2)
    assert condition.l1 == pytest.approx(l1, abs=0.01)
    np.testing.assert_allclose(np.abs(coefficients(lattice_rows(n, 2), np.eye(n), degree=2)).sum(axis=1), 1)
    assert not condition.loud


def test_an_inset_lattice_of_degree_two_amplifies():
    assert conditioning(lattice_rows(2, 2, 0.4), degree=2).l1 == pytest.approx(11.5)
    assert conditioning(lattice_rows(2, 2, 0.4), degree=2).loud


@pytest.mark.parametrize(
    ("rows", "arguments", "message"),
    [
        (np.eye(2), {"degree": 2}, "these 2 rows reach 2 of the 3 second moments of 2 objectives"),
        ([[1, 0], [0, 1], [1, 0]], {"degree": 2}, "reach 2 of the 3"),
        (np.vstack([np.eye(3), np.full((3, 3), 1 / 3)]), {"degree": 2}, "reach 4 of the 6"),
        (np.eye(2), {"degree": 3}, "degree must be 1 or 2, found 3"),
        (np.eye(2), {"noise": 0.1}, "only degree 2 looks at"),
        (np.eye(2), {"degree": 2, "noise": -1}, "noise must be finite and not negative"),
        (np.eye(2), {"degree": 2, "noise": float("nan")}, "noise must be finite"),
        (lattice_rows(2, 2), {"degree": 2, "scale": [-1, 0]}, "positive sum"),
    ],
)
def test_what_degree_two_cannot_do_is_refused(rows, arguments, message):
    with pytest.raises(ValueError, match=message):
        coefficients(rows, np.full(np.shape(rows)[1], 1 / np.shape(rows)[1]), **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1,), "2 or more"),
        ((2, 0), "degree must be a whole number"),
        ((2, 1.5), "degree must be"),
        ((2, 2, 0), r"inset must be in \(0, 1\]"),
        ((2, 2, 1.1), "inset must be"),
        ((2, 2, float("nan")), "inset must be"),
    ],
)
def test_a_lattice_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        lattice_rows(*arguments)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
@example([1e-9])
@example([0.5056825440417861])
def test_beta_of_two_objectives_is_its_closed_form(weights):
    grid = np.array([[w, 1 - w] for w in weights])
    square = ((2 * grid[:, 0] - 1) ** 2).mean()
    assume(square > 1e-4)
    assert best_beta(2, grid) == pytest.approx((1 + np.sqrt(square)) / 2, abs=1e-12)


def test_the_papers_beta_is_exact_for_the_interior_of_its_grid():
    grid = lattice(2, 10)
    assert best_beta(2, grid[interior(grid, 0.2)]) == pytest.approx(0.7, abs=1e-12)
    assert best_beta(2, grid) == pytest.approx((1 + np.sqrt(0.4)) / 2, abs=1e-12)
    assert best_beta_dirichlet(2) == pytest.approx((1 + np.sqrt(1 / 3)) / 2, abs=1e-12)
    assert best_beta_dirichlet(2, 2.5) == pytest.approx((1 + np.sqrt(1 / 6)) / 2, abs=1e-12)


@pytest.mark.parametrize("n", [2, 3, 4])
def test_no_other_beta_has_less_expected_error(n):
    """Against the theory's regret itself, on a grid of betas."""
    grid = lattice(n, 8)
    weights = np.random.default_rng(n).random(len(grid))
    best = best_beta(n, grid, weights)
    least = weights @ error_shape(circulant(n, best), grid)
    for beta in np.linspace(1 / n + 0.02, 1, 40):
        assert weights @ error_shape(circulant(n, beta), grid) >= least * (1 - 1e-9)


@pytest.mark.parametrize(("n", "concentration"), [(3, 1.0), (4, 1.0), (3, 2.5)])
def test_a_dirichlet_distribution_is_the_limit_of_its_samples(n, concentration):
    samples = np.random.default_rng(0).dirichlet(np.full(n, concentration), 100_000)
    assert best_beta_dirichlet(n, concentration) == pytest.approx(best_beta(n, samples), abs=2e-3)


@given(st.data())
def test_weights_count_as_repetition(data):
    n = data.draw(objectives)
    grid = lattice(n, 4)
    counts = data.draw(st.lists(st.integers(0, 3), min_size=len(grid), max_size=len(grid)))
    assume(sum(counts) > 2 and counts[0])
    assert best_beta(n, grid, counts) == pytest.approx(best_beta(n, np.repeat(grid, counts, axis=0)), abs=1e-9)


def test_vertices_alone_ask_for_rewarded_soup():
    assert best_beta(3, np.eye(3)) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((2, [[0.5, 0.5]]), "every backbone is the same policy"),
        ((3, [[0.5, 0.5]]), r"must be \[preference, 3\]"),
        ((2, [[0.5, 0.6]]), r"on the simplex, found \[0.5, 0.6\]"),
        ((2, [[1.5, -0.5]]), "on the simplex"),
        ((2, [[1, 0]], [0]), "not all 0"),
        ((2, [[1, 0]], [-1]), "not negative"),
        ((2, [[1, 0]], [1, 1]), r"weights must be \[1\]"),
    ],
)
def test_preferences_that_say_nothing_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        best_beta(*arguments)


@given(st.data())
def test_piecewise_interpolation_reaches_the_preference_between_its_neighbours(data):
    n, degree = data.draw(objectives), data.draw(st.integers(1, 3))
    mu = data.draw(simplex(n))
    rows = lattice_rows(n, degree)
    solved = piecewise(rows, mu)
    np.testing.assert_allclose(rows.T @ solved, mu, atol=1e-8)
    assert (solved >= 0).all()
    assert solved.sum() == pytest.approx(1)
    used = rows[solved > 1e-9]
    assert len(used) <= n
    # All of them are corners of one cell.
    assert np.abs(used[:, None] - used).max() <= 1 / degree + 1e-9


def test_piecewise_interpolation_by_hand():
    rows = lattice_rows(2, 2)
    np.testing.assert_allclose(piecewise(rows, np.array([0.6, 0.4])), [0.2, 0.8, 0], atol=1e-12)
    np.testing.assert_allclose(piecewise(rows, np.array([0.6, 0.4]), np.array([2.0, 2])), [0.4, 1.6, 0], atol=1e-12)
    with pytest.raises(ValueError, match="no policy for preference"):
        piecewise(rows[[0, 1]], np.array([0.1, 0.9]))
    with pytest.raises(ValueError, match="not negative"):
        piecewise(rows, np.array([1.1, -0.1]))


@given(st.data())
def test_the_correction_adds_to_specialists_what_bends(data):
    n = data.draw(objectives)
    mu = data.draw(simplex(n))
    pairs = [(i, j) for i in range(n) for j in range(i + 1, n)]
    rows = np.vstack([np.eye(n), [(np.eye(n)[i] + np.eye(n)[j]) / 2 for i, j in pairs]])
    solved = curved(rows, mu)
    np.testing.assert_allclose(solved, [*mu, *(4 * mu[i] * mu[j] for i, j in pairs)], atol=1e-12)
    assert (solved >= 0).all()
    assert solved.sum() <= 3 - 2 / n + 1e-9
    np.testing.assert_allclose(curved(rows, mu, np.full(n, 1.5)), 1.5 * solved, atol=1e-12)
    # It is the quadratic interpolant of theta where a correction is theta at the midpoint, less the straight mixture.
    rng = np.random.default_rng(0)
    linear, square = rng.normal(size=n), rng.normal(size=(n, n))

    def theta(b):
        return b @ linear + np.einsum("...i,ij,...j->...", b, square, b)

    adapters = [
        *theta(np.eye(n)),
        *(theta(rows[n + k]) - theta(np.eye(n)[list(p)]).mean() for k, p in enumerate(pairs)),
    ]
    assert solved @ adapters == pytest.approx(theta(mu), abs=1e-9)


def test_spare_rows_of_ones_own_reach_the_preference_and_use_the_policy_that_is_there():
    """Least norm gives (.83, .33, -.17) at a vertex, although a policy of exactly that row is there."""
    rows, corner = lattice_rows(2, 2), np.array([1.0, 0.0])
    chosen = MAPPINGS["moments"].coefficients(rows, corner, None)
    np.testing.assert_allclose(rows.T @ chosen, corner, atol=1e-12)
    assert chosen[rows[:, 0].argmax()] > 0.95
    least = coefficients(rows, corner)
    assert least.max() < 0.84
    for method, expected in (("bone", "moments"), ("rewarded", "solve"), ("least-norm", "solve"), ("mod", "solve")):
        assert METHODS[method].mapping_of(3, 2) == expected
    assert METHODS["bone"].mapping_of(2, 2) == "solve"


@pytest.mark.parametrize("inset", [1.0, 0.8, 0.6, 0.4])
def test_spare_rows_amplify_no_more_than_a_bone_soup_and_are_measured_as_they_are_used(inset):
    rows = 0.5 + inset * (lattice_rows(2, 2) - 0.5)
    norms = conditioning(rows, **compromise(rows))
    grid = lattice(2, 20)
    used = np.abs(MAPPINGS["moments"].coefficients(rows, grid, None)).sum(axis=1).max()
    assert norms.l1 == pytest.approx(used)
    assert norms.l1 < 3
    assert compromise(rows[:2]) == {}
