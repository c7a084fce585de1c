"""Utility of what was asked for, against closed forms and a front whose truth is known."""

import numpy as np
import pytest

from bonesoup.evaluation.metrics.asked import calibration, expected_utility, nearest_shares, regret
from bonesoup.evaluation.metrics.reference import hypervolume_ratios, reference_points
from bonesoup.method.basis import circulant
from bonesoup.method.front import hypervolume
from bonesoup.method.mappings import MAPPINGS
from bonesoup.method.preferences import lattice

GRID = lattice(2, 10)


def soup(mapping: str, grid: np.ndarray = GRID) -> np.ndarray:
    """Rewards [grid, objective] of a soup of backbones where r_i = 4 - (theta - theta_i*)^2, with optima at 1 and -1.

    A policy of the row b stands at b_1 - b_2, and one weight vector reaches every preference: the truth is the mapped
    soup, which stands at the optimum of each preference.
    """
    rows = circulant(2, 0.7)
    coefficients = np.array([MAPPINGS[mapping].coefficients(rows, mu, None) for mu in grid])
    theta = coefficients @ (rows @ [1, -1])
    return 4 - (theta[:, None] - [1, -1]) ** 2


def test_asking_for_the_nearest_vertex_is_worth_its_share_of_the_users():
    """With the vertices alone a user gets the larger weight: E max(mu, 1 - mu) = 3/4, and 11/18 for three."""
    for n, expected in ((2, 3 / 4), (3, 11 / 18)):
        found = expected_utility(np.eye(n)[None], nearest_shares(np.eye(n)))
        assert found == pytest.approx(expected, abs=0.005)


@pytest.mark.parametrize("n", [2, 3, 4])
def test_shares_are_those_of_all_users(n):
    grid = lattice(n, 4)
    shares = nearest_shares(grid)
    assert shares.sum() == pytest.approx(1)
    np.testing.assert_allclose(shares.sum(axis=0), 1 / n, atol=0.01)
    # A reward that nobody can steer is worth its mean to everybody.
    flat = np.broadcast_to(np.arange(1.0, n + 1), (1, *grid.shape))
    assert expected_utility(flat, shares) == pytest.approx((n + 1) / 2, abs=0.02)


def test_on_a_fine_grid_it_is_the_integral_of_the_utility():
    fine = lattice(2, 400)
    found = expected_utility(soup("solve", fine)[None], nearest_shares(fine))
    theta = np.linspace(-1, 1, 4001)
    mu = (theta + 1) / 2
    exact = (mu * (4 - (theta - 1) ** 2) + (1 - mu) * (4 - (theta + 1) ** 2)).mean()
    assert found == pytest.approx(exact, abs=0.01)


def test_using_the_preference_as_coefficients_loses_where_hypervolume_praises_it():
    """Unmapped, backbones crowd into the middle of the same curve: more points there, and nothing for the ends."""
    mapped, unmapped = soup("solve"), soup("direct")
    near = np.full(2, 2.0)
    assert hypervolume(unmapped, near) > hypervolume(mapped, near)
    shares = nearest_shares(GRID)
    lost = expected_utility(mapped[None], shares) - expected_utility(unmapped[None], shares)
    assert lost > 0.05
    regrets = regret({m: (points * GRID).sum(axis=1)[None] for m, points in (("a", mapped), ("b", unmapped))})
    assert (regrets["a"] == 0).all()
    # theta is .4 x instead of x = 2 mu - 1, and the utility falls with the square of the distance.
    np.testing.assert_allclose(regrets["b"][0], (0.6 * (2 * GRID[:, 0] - 1)) ** 2, atol=1e-12)
    # The verdict of the hypervolume is one of the reference point.
    ratios = hypervolume_ratios({"a": mapped, "b": unmapped}, "a", reference_points([mapped, unmapped]))["b"]
    assert max(ratios) < 1
    assert hypervolume_ratios({"a": mapped, "b": unmapped}, "a", [near])["b"][0] > 1


def test_calibration_is_what_another_request_would_have_brought():
    """Answers in the wrong order: at every preference the answer to the opposite one is the right one."""
    points = soup("solve")
    assert calibration(points[None], GRID) == pytest.approx(np.zeros((1, 11)), abs=1e-12)
    turned = calibration(points[None, ::-1], GRID)[0]
    np.testing.assert_allclose(turned, (2 * (2 * GRID[:, 0] - 1)) ** 2, atol=1e-12)


def test_regret_is_against_the_method_that_the_sample_calls_best():
    """In the resample the second method is ahead everywhere: that is negative regret, not another choice."""
    regrets = regret({"a": np.array([[2.0, 0.0], [1.0, 0.0]]), "b": np.array([[1.0, 3.0], [4.0, 3.0]])})
    assert regrets["a"].tolist() == [[0, 3], [0, 3]]
    assert regrets["b"].tolist() == [[1, 0], [-3, 0]]
