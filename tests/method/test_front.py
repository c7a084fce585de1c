"""Front metrics against hand cases, brute force and volumes computed another way."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bonesoup.method.front import (
    cardinality,
    controllability,
    hypervolume,
    inner_product,
    nondominated,
    spacing,
    sparsity,
)
from bonesoup.method.preferences import lattice

# A coarse grid of values, so that ties and duplicates occur.
values = st.integers(-8, 8).map(lambda v: v / 4)


@st.composite
def fronts(draw, most=7):
    shape = (draw(st.integers(1, most)), draw(st.integers(2, 4)))
    return draw(arrays(float, shape, elements=values))


@st.composite
def answered(draw):
    """Draw preferences with a point for each."""
    points = draw(fronts())
    preferences = draw(arrays(float, points.shape, elements=st.integers(0, 4).map(lambda v: v / 4)))
    return preferences, points


STAIRS = np.array([[1.0, 4.0], [2.0, 3.0], [4.0, 1.0], [1.0, 3.0]])  # the last is dominated


def test_a_front_by_hand():
    assert nondominated(STAIRS).tolist() == [True, True, True, False]
    assert cardinality(STAIRS) == 3
    assert hypervolume(STAIRS, [0, 0]) == pytest.approx(4 + 3 + 2)  # columns 0..1, 1..2, 2..4
    # gaps 1, 2 in the first objective and 2, 1 in the second
    assert sparsity(STAIRS) == pytest.approx((1 + 4 + 4 + 1) / 2)
    # nearest L1 distances 2, 2, 4
    assert spacing(STAIRS) == pytest.approx(np.std([2, 2, 4], ddof=1))


def test_duplicates_all_stay():
    points = [[1, 2], [1, 2], [0, 0]]
    assert nondominated(points).tolist() == [True, True, False]
    assert cardinality(points) == 2


@given(fronts())
def test_dominance_by_brute_force(points):
    expected = [not any((other >= point).all() and (other > point).any() for other in points) for point in points]
    assert nondominated(points).tolist() == expected


def inclusion_exclusion(points, reference):
    """Compute the volume of a union of boxes from the reference to each point."""
    boxes = [np.maximum(point, reference) for point in points]
    return sum(
        (-1) ** (size + 1) * np.prod(np.min(chosen, axis=0) - reference)
        for size in range(1, len(boxes) + 1)
        for chosen in combinations(boxes, size)
    )


@given(st.data())
def test_hypervolume_by_inclusion_and_exclusion(data):
    points = data.draw(fronts())
    reference = data.draw(arrays(float, points.shape[1], elements=values))
    assert hypervolume(points, reference) == pytest.approx(inclusion_exclusion(points, reference), abs=1e-9)


def test_hypervolume_by_counting_samples():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(15, 5))
    samples = rng.uniform(-2, points.max(), size=(200_000, 5))
    inside = np.zeros(len(samples), dtype=bool)
    for point in points:
        inside |= (samples < point).all(axis=1)
    box = (points.max() + 2) ** 5
    error = box * np.sqrt(inside.mean() * (1 - inside.mean()) / len(samples))
    assert hypervolume(points, np.full(5, -2.0)) == pytest.approx(box * inside.mean(), abs=4 * error)


@given(st.data())
def test_hypervolume_is_monotone_and_does_not_see_order_shift_or_dominated_points(data):
    points = data.draw(fronts())
    reference = np.full(points.shape[1], -1.0)
    volume = hypervolume(points, reference)
    order = data.draw(st.permutations(range(len(points))))
    columns = data.draw(st.permutations(range(points.shape[1])))
    assert hypervolume(points[list(order)][:, list(columns)], reference) == pytest.approx(volume)
    assert hypervolume(points[nondominated(points)], reference) == pytest.approx(volume)
    assert hypervolume(points + 3, reference + 3) == pytest.approx(volume)
    assert hypervolume(points + 0.25, reference) >= volume
    assert hypervolume(points[:1], reference) <= volume + 1e-9


def test_points_below_the_reference_add_nothing():
    assert hypervolume([[2, 2], [9, -1], [-1, 9]], [0, 0]) == pytest.approx(4)
    assert hypervolume([[-1, -1]], [0, 0]) == 0
    assert hypervolume([[0, 5]], [0, 0]) == 0


@given(answered())
def test_controllability_by_brute_force(pair):
    preferences, points = pair
    asked = met = 0
    for a in range(len(points)):
        for b in range(len(points)):
            for i in range(points.shape[1]):
                if preferences[a, i] > preferences[b, i]:
                    asked += 1
                    met += points[a, i] > points[b, i]
    if not asked:
        with pytest.raises(ValueError, match="two preferences that differ"):
            controllability(preferences, points)
    else:
        assert controllability(preferences, points) == pytest.approx(met / asked)


def test_controllability_at_its_ends():
    grid = lattice(3, 4)
    assert controllability(grid, grid) == 1
    assert controllability(grid, -grid) == 0
    assert controllability(grid, np.ones_like(grid)) == 0  # a policy that cannot be steered
    assert controllability(grid, np.exp(3 * grid)) == 1  # only order counts


@given(answered())
def test_inner_product_by_brute_force(pair):
    preferences, points = pair
    expected = np.mean([sum(m * r for m, r in zip(mu, point, strict=True)) for mu, point in zip(*pair, strict=True)])
    assert inner_product(preferences, points) == pytest.approx(expected)


@given(fronts())
def test_shape_metrics_by_brute_force(points):
    front = [p for p, stays in zip(points, nondominated(points), strict=True) if stays]
    gaps = 0.0
    for i in range(points.shape[1]):
        column = sorted(p[i] for p in front)
        gaps += sum((high - low) ** 2 for low, high in zip(column, column[1:], strict=False))
    assert sparsity(points) == pytest.approx(gaps / (len(front) - 1) if len(front) > 1 else 0)
    near = [min(abs(p - q).sum() for k, q in enumerate(front) if k != j) for j, p in enumerate(front) if len(front) > 1]
    assert spacing(points) == pytest.approx(np.std(near, ddof=1) if len(front) > 2 else 0, abs=1e-12)


@settings(max_examples=50)
@given(st.data())
def test_the_order_of_the_grid_and_of_the_objectives_does_not_matter(data):
    preferences, points = data.draw(answered())
    order = list(data.draw(st.permutations(range(len(points)))))
    columns = list(data.draw(st.permutations(range(points.shape[1]))))
    turned = points[order][:, columns]
    for metric in (cardinality, sparsity, spacing):
        assert metric(turned) == pytest.approx(metric(points), abs=1e-12)
    turned_preferences = preferences[order][:, columns]
    assert inner_product(turned_preferences, turned) == pytest.approx(inner_product(preferences, points))


@pytest.mark.parametrize("metric", [nondominated, cardinality, sparsity, spacing])
@pytest.mark.parametrize(
    "points", [[1.0, 2.0], np.zeros((0, 2)), [[1.0, float("nan")]], [[1.0, float("inf")]], [[1], [1, 2]]]
)
def test_points_that_are_none_are_refused(metric, points):
    with pytest.raises(ValueError, match="points"):
        metric(points)


@pytest.mark.parametrize("metric", [inner_product, controllability])
def test_a_preference_for_every_point(metric):
    with pytest.raises(ValueError, match="row for row"):
        metric(lattice(2, 2), np.ones((2, 2)))
    with pytest.raises(ValueError, match="preferences has values that are not finite"):
        metric([[np.nan, 1]], [[1, 1]])


@pytest.mark.parametrize("reference", [0, [0], [0, 0, 0], [0, np.nan]])
def test_a_reference_for_every_objective(reference):
    with pytest.raises(ValueError, match="reference"):
        hypervolume([[1, 1]], reference)
