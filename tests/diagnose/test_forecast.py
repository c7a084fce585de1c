"""The forecasts of a diagnosis against quadratics whose curvatures and regrets are known."""

import numpy as np
import pytest

from bonesoup.diagnose.forecast import (
    barrier,
    bend,
    curvature,
    extrapolating,
    fall,
    movement,
    predict,
    prompts_needed,
    regret,
)
from bonesoup.evaluation.statistics import Statistics
from bonesoup.method.basis import circulant, coefficients
from bonesoup.method.preferences import interior, lattice
from bonesoup.method.quadratic import asymmetry, regret_bone, regret_rewarded

STATISTICS = Statistics(100, 0.95, 0)
T = np.array([0, 0.25, 0.5, 0.75, 1])
GRID = lattice(2, 10)
OPTIMA = np.array([[1.0, -0.5, 0.0], [-0.4, 0.7, 1.1]])


def rewards(k, theta):
    return 2.0 - np.array(k) * ((theta - OPTIMA) ** 2).sum(axis=1)


def test_curvatures_of_exact_quadratics_give_their_asymmetry_and_regrets():
    k = (1.3, 0.8)
    line = np.stack([rewards(k, OPTIMA[0] + t * (OPTIMA[1] - OPTIMA[0])) for t in T])
    a1, a2 = curvature(T, line[:, 0]), curvature(T, line[::-1, 1])
    square = ((OPTIMA[0] - OPTIMA[1]) ** 2).sum()
    assert (a1, a2) == (pytest.approx(1.3 * square), pytest.approx(0.8 * square))
    assert asymmetry(a1, a2) == pytest.approx(asymmetry(*k))
    # Curvature over the line's own length: its spread is a quarter.
    assert regret_bone(a1, a2, 0.25, 0.7, 0.4) == pytest.approx(regret_bone(*k, square / 4, 0.7, 0.4))


def test_the_regret_at_the_even_preference_predicts_gains_measured_on_real_merges():
    k, rows = (1.05, 1.0), circulant(2, 0.7)

    def best(row):
        pull = row * np.array(k)
        return pull @ OPTIMA / pull.sum()

    def gains(preferences):
        bone = coefficients(rows, preferences) @ np.stack([best(row) for row in rows])
        rewarded = preferences @ OPTIMA
        return [mu @ (rewards(k, b) - rewards(k, r)) for mu, b, r in zip(preferences, bone, rewarded, strict=True)]

    missed = regret_rewarded(*k, ((OPTIMA[0] - OPTIMA[1]) ** 2).sum() / 4, 0.5)
    forecast = predict(np.full(3, missed), rows, GRID, 0.2, STATISTICS)
    assert forecast.gain == pytest.approx(np.mean(gains(GRID[interior(GRID, 0.2)])), rel=0.02)
    assert forecast.even.value == pytest.approx(gains(np.array([[0.5, 0.5]]))[0], rel=0.01)
    assert forecast.vertices.value == pytest.approx(np.mean(gains(np.eye(2))), rel=0.01)
    assert forecast.region == pytest.approx(np.mean(np.array(gains(GRID)) > 0))


@pytest.mark.parametrize(
    ("draws", "verdict"),
    [([0.2, 0.1, 0.2, 0.3], "win"), ([0.01, -0.1, 0.0, 0.1], "tie"), ([-0.2, -0.3, -0.2, -0.1], "lose")],
)
def test_verdict(draws, verdict):
    forecast = predict(np.array(draws), circulant(3, 0.7), lattice(3, 6), 0.1, STATISTICS)
    assert forecast.verdict == verdict
    assert forecast.low <= forecast.gain <= forecast.high


def test_specialists_as_backbones_gain_nothing():
    forecast = predict(np.array([0.3, 0.2, 0.4]), np.eye(2), GRID, 0.2, STATISTICS)
    assert (forecast.gain, forecast.verdict, forecast.region) == (0, "tie", 0)


def test_a_grid_without_interior_points_answers_for_the_even_preference():
    forecast = predict(np.array([0.3, 0.2, 0.4]), circulant(3, 0.7), np.eye(3), 0.2, STATISTICS)
    assert forecast.gain == forecast.even.value > 0


def test_unfinished_training_is_not_taken_for_what_the_soup_misses():
    even, unfinished = np.array([0.3, 0.25]), np.array([[0.3, 0.3], [0.2, 0.3]])
    np.testing.assert_allclose(regret(even, unfinished), 0, atol=1e-12)


def test_shape_of_a_line():
    values = np.array([0.0, 0.5, 0.2, 0.9, 1.0])
    assert barrier(T, values) == pytest.approx(0.3)
    assert fall(values) == pytest.approx(0.3)
    assert barrier(T, T * (2 - T)) == fall(T * (2 - T)) == 0
    assert bend(T, 3 * T**2 - T + 5) == pytest.approx(3)


def test_draws_are_kept():
    values = np.random.default_rng(0).normal(size=(4, 5))
    for measure in (barrier, bend, curvature):
        np.testing.assert_allclose(measure(T, values), [measure(T, value) for value in values])


@pytest.mark.parametrize(("kl", "word"), [(0.3, "little"), (3, "good"), (6, "far"), (9, "too far")])
def test_movement(kl, word):
    assert word in movement(kl)


def test_prompts_needed_tell_the_gain_four_times_in_five():
    count = prompts_needed(0.5, 0.1, 0.95)
    rng = np.random.default_rng(0)
    means = rng.normal(0.1, 0.5, size=(4000, count)).mean(axis=1)
    detected = (means - 1.96 * 0.5 / np.sqrt(count) > 0).mean()
    assert detected == pytest.approx(0.8, abs=0.03)
    assert prompts_needed(0.5, 0.0, 0.95) is None


def test_extrapolation_that_gains_costs_nothing():
    lost = np.array([[0.2, 0.4], [-0.3, 0.1]])
    np.testing.assert_allclose(extrapolating(lost, 1.0), [0.3, 0])
    np.testing.assert_allclose(extrapolating(lost, 0.5), [0.6, 0])


def test_what_extrapolation_costs_is_taken_off_every_part_of_the_grid():
    """At beta = .7 coefficients add ((x/.4)^2 - 1)/2 of noise: 2.625 at the vertices, .625 at the outermost inside."""
    missed, cost = np.full(3, 0.2), np.full(3, 0.1)
    without = predict(missed, circulant(2, 0.7), GRID, 0.2, STATISTICS)
    forecast = predict(missed, circulant(2, 0.7), GRID, 0.2, STATISTICS, cost=cost)
    assert forecast.vertices.value == pytest.approx(without.vertices.value - 0.2625)
    assert forecast.gain == pytest.approx(without.gain - 0.1 * 1.25 / 7)
    assert forecast.grid.value == pytest.approx(without.grid.value - 0.1 * (2 * 2.625 + 2 * 1.5 + 2 * 0.625) / 11)
    assert forecast.even == without.even
    assert forecast.extrapolating == pytest.approx({"interior": 0.125 / 7, "grid": 0.95 / 11, "vertices": 0.2625})
    assert set(without.extrapolating.values()) == {0.0}
    specialists = predict(missed, np.eye(2), GRID, 0.2, STATISTICS, cost=cost)
    assert (specialists.gain, specialists.vertices.value, specialists.region) == (0, 0, 0)
