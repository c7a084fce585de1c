"""Distances to the union of fronts, on fronts that are shifted by a known amount."""

import numpy as np
import pytest

from bonesoup.evaluation.metrics.union import against_union
from bonesoup.method.front import nondominated
from bonesoup.method.preferences import lattice


def drawn(points, draws: int = 2) -> np.ndarray:
    return np.broadcast_to(points, (draws, *np.shape(points)))


@pytest.mark.parametrize("n", [2, 3])
def test_a_front_that_is_behind_by_a_constant(n):
    line = lattice(n, 10)
    found = against_union({"ahead": drawn(line), "behind": drawn(line - 0.03)})
    assert found["ahead"]["epsilon"] == pytest.approx([0, 0], abs=1e-12)
    assert found["ahead"]["igd_plus"] == pytest.approx([0, 0], abs=1e-12)
    assert found["behind"]["epsilon"] == pytest.approx([0.03, 0.03])
    assert found["behind"]["igd_plus"] == pytest.approx([0.03 * n**0.5] * 2)
    assert found["ahead"]["pareto"].all()
    assert not found["behind"]["pareto"].any()
    assert ("r2" in found["ahead"]) == (n == 2)
    if n == 2:
        assert (found["ahead"]["r2"] < found["behind"]["r2"]).all()


def test_r2_is_the_expected_chebyshev_distance_to_the_best_of_the_union():
    points = np.array([[0.0, 1.0], [0.7, 0.7], [1.0, 0.0]])
    weights = np.linspace(0, 1, 20_001)
    short = 1 - points
    distance = np.maximum(weights[:, None] * short[:, 0], (1 - weights[:, None]) * short[:, 1]).min(axis=1)
    assert against_union({"a": drawn(points)})["a"]["r2"] == pytest.approx([distance.mean()] * 2, abs=1e-4)


def test_a_method_that_covers_one_end_is_short_of_the_other():
    found = against_union({"left": drawn([[0.0, 1.0]]), "right": drawn([[1.0, 0.0]])})
    assert found["left"]["epsilon"] == pytest.approx([1, 1])
    assert found["left"]["igd_plus"] == pytest.approx([0.5, 0.5])
    assert found["left"]["pareto"].all()


def test_the_probability_of_being_pareto_optimal_is_counted_over_joint_resamples():
    """A point that is ahead in a quarter of the resamples; equal points survive together."""
    rival = np.zeros((8, 1, 2))
    point = rival - 0.1
    point[:2] += 0.2
    found = against_union({"a": point, "b": rival, "twin": rival})
    assert found["a"]["pareto"].mean() == 0.25
    assert found["b"]["pareto"].mean() == found["twin"]["pareto"].mean() == 0.75


def test_dominance_is_that_of_the_other_metrics():
    every = np.random.default_rng(0).normal(size=(5, 40, 3))
    found = against_union({"a": every[:, :25], "b": every[:, 25:]})
    for draw, points in enumerate(every):
        kept = np.concatenate([found[method]["pareto"][draw] for method in "ab"])
        assert np.array_equal(kept == 1, nondominated(points))
