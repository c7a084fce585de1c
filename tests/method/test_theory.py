"""The closed forms of docs/method.md, against merges made with the package's own coefficients.

Two objectives r_i(theta) = psi_i - k_i |theta - theta_i*|^2. A policy trained on row w sits at the optimum of
w . r; a merge is the coefficients' combination of policies; its regret is its distance from the optimal reward.
"""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bonesoup.method import quadratic
from bonesoup.method.basis import circulant, coefficients

curvatures = st.floats(0.1, 10)
betas = st.floats(0.55, 1)
weights = st.floats(0, 1)

_rng = np.random.default_rng(0)
THETA = _rng.normal(size=(2, 5))  # the two optima
PSI = _rng.normal(size=2)
L2 = ((THETA[0] - THETA[1]) ** 2).sum() / 4


def reward(row, k, theta):
    return row @ (PSI - k * ((theta - THETA) ** 2).sum(axis=1))


def optimum(row, k):
    pull = row * k
    return pull @ THETA / pull.sum()


def regret(k, beta, mu):
    """Measure the regret of policies at the optima of the rows, merged by `coefficients`."""
    k, preference, rows = np.array(k), np.array([mu, 1 - mu]), circulant(2, beta)
    policies = np.array([optimum(row, k) for row in rows])
    merged = coefficients(rows, preference) @ policies
    return reward(preference, k, optimum(preference, k)) - reward(preference, k, merged)


def regret_rewarded(k, mu):
    return quadratic.regret_rewarded(*k, L2, mu)


def regret_bone(k, beta, mu):
    return quadratic.regret_bone(*k, L2, beta, mu)


def win_region(k, beta):
    return quadratic.win_region(*k, beta)


def close(value):
    return pytest.approx(value, rel=1e-6, abs=1e-8)


@given(curvatures, curvatures, weights)
def test_regret_of_rewarded_soup(k1, k2, mu):
    assert regret((k1, k2), 1, mu) == close(regret_rewarded((k1, k2), mu))


@given(curvatures, curvatures, betas, weights)
def test_regret_of_bone_soup(k1, k2, beta, mu):
    assert regret((k1, k2), beta, mu) == close(regret_bone((k1, k2), beta, mu))


@given(curvatures, curvatures, betas, weights)
def test_bone_soup_wins_exactly_inside_its_region(k1, k2, beta, mu):
    k = (k1, k2)
    edge, x = win_region(k, beta), abs(2 * mu - 1)
    # Away from ties, where the sign of the difference is only rounding.
    assume(beta < 0.99 and abs(k1 - k2) > 0.05 * (k1 + k2) and abs(x - edge) > 1e-3)
    assume(max(regret_rewarded(k, mu), regret_bone(k, beta, mu)) > 1e-9)
    assert (regret(k, beta, mu) < regret(k, 1, mu)) == (x < edge)


@given(curvatures, curvatures, betas)
def test_the_papers_interval_lies_inside_the_region(k1, k2, beta):
    """Theorem 1 of the paper: sufficient for every curvature, and the limit of equal ones."""
    theorem = np.sqrt(2 * beta**2 - 2 * beta + 1)
    assert win_region((k1, k2), beta) >= theorem - 1e-12
    assert win_region((k1, k1 * (1 + 1e-6)), beta) == pytest.approx(theorem)


@given(curvatures, curvatures, betas)
def test_each_method_is_optimal_at_its_own_rows(k1, k2, beta):
    for mu in (beta, 1 - beta):
        assert regret((k1, k2), beta, mu) == close(0)
    for mu in (0, 1):
        assert regret((k1, k2), 1, mu) == close(0)


@given(curvatures, betas, weights)
def test_equal_curvature_is_a_tie_at_zero(k, beta, mu):
    assert regret((k, k), beta, mu) == close(0)
    assert regret((k, k), 1, mu) == close(0)


@given(curvatures, curvatures, weights)
def test_rewarded_soup_is_bone_soup_at_beta_one(k1, k2, mu):
    assert regret_bone((k1, k2), 1, mu) == close(regret_rewarded((k1, k2), mu))


def test_bone_soup_loses_at_the_vertices():
    """No method wins everywhere, and the report must be able to show it."""
    assert regret((1, 4), 0.7, 1) > regret((1, 4), 1, 1) + 0.01
    assert regret((1, 4), 0.7, 0.5) < regret((1, 4), 1, 0.5) - 0.01


@given(curvatures, curvatures, betas, st.floats(0, 100))
def test_curvature_shared_by_all_objectives_shrinks_the_gain(k1, k2, beta, penalty):
    """A KL penalty to the SFT policy acts like such a curvature: it limits what merging better can win."""

    def gain(extra):
        k = (k1 + extra, k2 + extra)
        return regret(k, 1, 0.5) - regret(k, beta, 0.5)

    assert gain(penalty) <= gain(0) + 1e-9
