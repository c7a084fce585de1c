"""The leading-order theory of soups, against exact quadratics with a curvature matrix per objective."""

import numpy as np
import pytest

from bonesoup.method.basis import circulant, coefficients, lattice_rows
from bonesoup.method.preferences import lattice
from bonesoup.method.quadratic import (
    added_noise,
    asymmetry,
    error_shape,
    penalised_share,
    regret_rewarded,
    relative_gain,
)

DIMENSIONS = 12


def quadratics(rng, n, differ):
    """Draw curvature matrices [n, d, d] near the identity, and optima [n, d]."""
    noise = rng.normal(size=(n, DIMENSIONS, DIMENSIONS))
    return np.eye(DIMENSIONS) + differ * (noise + noise.transpose(0, 2, 1)) / 2, rng.normal(size=(n, DIMENSIONS))


def optimum(hessians, optima, row):
    curvature = np.einsum("n,nij->ij", row, hessians)
    return np.linalg.solve(curvature, np.einsum("n,nij,nj->i", row, hessians, optima)), curvature


def regrets(hessians, optima, rows, preferences):
    policies = np.stack([optimum(hessians, optima, row)[0] for row in rows])
    measured = []
    for preference, merged in zip(preferences, coefficients(rows, preferences) @ policies, strict=True):
        best, curvature = optimum(hessians, optima, preference)
        measured.append((merged - best) @ curvature @ (merged - best))
    return np.array(measured)


@pytest.mark.parametrize("beta", [0.6, 0.7, 0.8])
def test_gain_between_two_objectives_needs_no_knowledge_of_the_directions(beta):
    """With two objectives there is one direction, whose size cancels: one measured regret gives the whole profile."""
    hessians, optima = quadratics(np.random.default_rng(1), 2, 1e-4)
    grid, rows = lattice(2, 10), circulant(2, beta)
    rewarded, bone = (regrets(hessians, optima, basis, grid) for basis in (np.eye(2), rows))
    np.testing.assert_allclose(relative_gain(rows, grid), (rewarded - bone) / rewarded[5], atol=2e-3)


@pytest.mark.parametrize(
    "rows", [circulant(3, 0.7), [[0.6, 0.3, 0.1], [0.1, 0.6, 0.3], [0.2, 0.1, 0.7], [0.4, 0.3, 0.3]]]
)
def test_gain_among_three_objectives_holds_on_average(rows):
    rng, grid, rows = np.random.default_rng(2), lattice(3, 4), np.asarray(rows)
    drawn = [quadratics(rng, 3, 1e-3) for _ in range(600)]
    rewarded, bone = (np.mean([regrets(*problem, w, grid) for problem in drawn], axis=0) for w in (np.eye(3), rows))
    even = np.mean([regrets(*problem, np.eye(3), np.full((1, 3), 1 / 3)) for problem in drawn])
    np.testing.assert_allclose(relative_gain(rows, grid), (rewarded - bone) / even, atol=0.06, rtol=0.06)


def test_shape_of_a_circulant():
    x = 2 * lattice(2, 10)[:, 0] - 1
    np.testing.assert_allclose(error_shape(circulant(2, 0.7), lattice(2, 10)), (0.4**2 - x**2) ** 2 / 16, atol=1e-15)
    np.testing.assert_allclose(error_shape(np.eye(2), lattice(2, 10)), (1 - x**2) ** 2 / 16, atol=1e-15)


def test_rewarded_soup_wins_nothing_over_itself():
    np.testing.assert_allclose(relative_gain(np.eye(3), lattice(3, 4)), 0, atol=1e-15)


def test_a_curvature_that_averages_out_along_the_line_still_costs_a_soup():
    """The asymmetry along one line is a mean over directions; regret takes its square in each of them."""
    hessians = np.stack([np.diag([1.5, 0.5]), np.diag([0.5, 1.5])])
    optima = np.array([[1.0, 1.0], [-1.0, -1.0]])
    step = optima[0] - optima[1]
    k1, k2 = (step @ h @ step / (step @ step) for h in hessians)
    assert asymmetry(k1, k2) == 0
    assert regret_rewarded(k1, k2, step @ step / 4, 0.5) == 0
    assert regrets(hessians, optima, np.eye(2), np.array([[0.5, 0.5]]))[0] == pytest.approx(0.5)


@pytest.mark.parametrize("extra", [0.5, 1, 4])
def test_a_penalty_towards_one_point_leaves_the_third_power(extra):
    """Rewards k_i |theta - p_i|^2 and a penalty extra |theta|^2: their joint optima, put in the exact regret."""
    k = np.array([1.0, 1.001])
    points = np.array([1.0, -1.0])

    def even(added):
        total = k + added
        drawn = k * points / total
        return regret_rewarded(*total, (drawn[0] - drawn[1]) ** 2 / 4, 0.5)

    assert even(extra) / even(0) == pytest.approx(penalised_share(1, extra), rel=0.01)


def test_only_extrapolation_adds_noise():
    """b = 2 beta - 1: Bone Soup has (1 + x^2 / b^2) / 2 times a policy's noise; the others never more than one's."""
    grid = lattice(2, 10)
    x = np.abs(2 * grid[:, 0] - 1)
    for beta in (0.7, 0.8):
        expected = np.maximum((x / (2 * beta - 1)) ** 2 - 1, 0) / 2
        np.testing.assert_allclose(added_noise(circulant(2, beta), grid), expected, atol=1e-12)
    for n in (2, 3, 4):
        grid = lattice(n, 5)
        np.testing.assert_allclose(added_noise(np.eye(n), grid), 0, atol=1e-12)
        for mapping in ("quadratic", "piecewise", "curved"):
            np.testing.assert_allclose(added_noise(lattice_rows(n, 2), grid, mapping), 0, atol=1e-12)


def test_noise_is_the_variance_of_soups_of_policies_with_independent_noise():
    rng, grid = np.random.default_rng(0), lattice(2, 4)
    rows = circulant(2, 0.65)
    soups = np.array([coefficients(rows, mu) for mu in grid]) @ rng.normal(size=(2, 200_000))
    np.testing.assert_allclose(added_noise(rows, grid), np.maximum(soups.var(axis=1) - 1, 0), atol=0.05)
