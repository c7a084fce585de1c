"""Bootstrap intervals, pairing, and grids: properties that hold whatever the data."""

import numpy as np
import pytest

from bonesoup.evaluation.compare import evaluate
from bonesoup.evaluation.samples import Front, read_fronts
from bonesoup.evaluation.statistics import Statistics, resampled_means
from bonesoup.method import front as metrics
from bonesoup.method.preferences import lattice

OBJECTIVES = ["helpful", "harmless"]


def made(method: str, preferences: np.ndarray, reward: np.ndarray) -> Front:
    """Make a front [prompt, grid, objective] with gold twice the reward."""
    prompts, grid, n = reward.shape
    flat = np.ones((prompts, grid))
    ids = tuple(f"p{i}" for i in range(prompts))
    return Front(method, tuple("abcdef"[:n]), ids, preferences, reward, 2 * reward, flat, 10 * flat)


def compare(fronts, references=(-1, -2), interior=0.2, bootstrap=200, seed=0):
    return evaluate(fronts, references, interior, Statistics(bootstrap, 0.95, seed))


@pytest.fixture
def results(samples):
    return compare(read_fronts(samples, OBJECTIVES))


def test_interval_of_a_gaussian_mean_covers_it_as_often_as_it_says():
    rng, statistics = np.random.default_rng(0), Statistics(400, 0.9, 1)
    weights = statistics.weights(200)
    values = rng.normal(3, 2, (200, 600))
    draws = resampled_means(weights, values)
    covered = [(e := statistics.estimate(draws[:, i])).low <= 3 <= e.high for i in range(600)]
    # 600 trials at .9 have a standard error of .012; the bootstrap itself is short by about .005 at 200 rows.
    assert 0.86 < np.mean(covered) < 0.94


def test_interval_width_is_that_of_the_normal_theory():
    values = np.random.default_rng(3).normal(size=(400, 1))
    statistics = Statistics(4000, 0.95, 0)
    estimate = statistics.estimate(resampled_means(statistics.weights(400), values)[:, 0])
    assert estimate.high - estimate.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.06)
    assert estimate.value == pytest.approx(values.mean())


def test_pairing_narrows_the_difference_where_prompts_matter():
    rng = np.random.default_rng(0)
    grid = lattice(2, 4)
    prompt_effect = rng.normal(size=(300, 1, 2))
    a, b = (made(m, grid, prompt_effect + rng.normal(0, 0.2, (300, 5, 2))) for m in ("rewarded", "bone"))
    block = compare([a, b]).blocks[0]

    def width(e):
        return e.high - e.low

    widths = [width(block.metrics["reward"][m]["inner_product"]) for m in ("rewarded", "bone")]
    unpaired = np.hypot(*widths)
    assert width(block.differences["reward"]["bone"]["inner_product"]) < 0.25 * unpaired


def test_identical_methods_differ_by_exactly_zero():
    grid = lattice(3, 4)
    reward = np.random.default_rng(0).normal(0.5, 1, (80, len(grid), 3))
    block = compare([made("rewarded", grid, reward), made("bone", grid, reward)]).blocks[0]
    for unit in ("reward", "gold"):
        for estimate in block.differences[unit]["bone"].values():
            assert (estimate.value, estimate.low, estimate.high) == (0, 0, 0)
        for estimate in block.ratios[unit]["bone"].values():
            assert (estimate.value, estimate.low, estimate.high) == (1, 1, 1)
        assert not block.gains[unit]["bone"].high.any()


def test_estimates_are_the_metrics_of_the_mean_front(samples):
    fronts = {front.method: front for front in read_fronts(samples, OBJECTIVES)}
    block = compare(list(fronts.values())).blocks[0]
    grid, mean = fronts["bone"].preferences, fronts["bone"].gold.mean(axis=0)
    values = {key: e.value for key, e in block.metrics["gold"]["bone"].items()}
    inside = (grid >= 0.2 - 1e-9).all(axis=1)
    expected = {
        "hypervolume@-1": metrics.hypervolume(mean, [-1, -1]),
        "hypervolume@-2": metrics.hypervolume(mean, [-2, -2]),
        "inner_product": metrics.inner_product(grid, mean),
        "inner_product_interior": metrics.inner_product(grid[inside], mean[inside]),
        "inner_product_edge": metrics.inner_product(grid[[1, 9]], mean[[1, 9]]),
        "inner_product_vertex": metrics.inner_product(grid[[0, 10]], mean[[0, 10]]),
        "controllability": metrics.controllability(grid, mean),
        "cardinality": metrics.cardinality(mean),
        "sparsity": metrics.sparsity(mean),
        "spacing": metrics.spacing(mean),
        "kl": fronts["bone"].kl.mean(),
        "tokens": fronts["bone"].tokens.mean(),
    }
    assert values == pytest.approx(expected)


def test_sft_is_one_point_that_answers_every_preference(samples, results):
    sft = next(front for front in read_fronts(samples, OBJECTIVES) if front.method == "sft")
    point = sft.reward.mean(axis=0)[0]
    metrics = results.blocks[0].metrics["reward"]["sft"]
    assert metrics["cardinality"].value == 1
    assert metrics["controllability"].value == 0
    assert metrics["inner_product"].value == pytest.approx(point.mean())
    assert metrics["hypervolume@-1"].value == pytest.approx(np.prod(point + 1))


def test_partial_method_gets_a_grid_of_its_own(samples, results):
    full, oracle = results.blocks
    assert full.methods == ("sft", "rewarded", "bone")
    assert len(full.preferences) == 11
    assert oracle.name == "oracle grid"
    assert oracle.methods == ("sft", "rewarded", "bone", "oracle")
    assert oracle.preferences[:, 0].tolist() == [0, 0.3, 0.5, 0.7, 1]
    bone = next(front for front in read_fronts(samples, OBJECTIVES) if front.method == "bone")
    assert oracle.points["gold"]["bone"] == pytest.approx(bone.gold.mean(axis=0)[[0, 3, 5, 7, 10]])
    assert "inner_product_edge" not in oracle.metrics["gold"]["bone"]


def test_order_of_a_methods_points_does_not_matter(samples, results):
    fronts = read_fronts(samples, OBJECTIVES)
    turned = [
        Front(
            f.method,
            f.objectives,
            f.prompts,
            f.preferences[::-1],
            f.reward[:, ::-1],
            f.gold[:, ::-1],
            f.kl[:, ::-1],
            f.tokens[:, ::-1],
        )
        if f.method == "oracle"
        else f
        for f in fronts
    ]
    again = compare(turned)
    assert again.blocks[1].differences["gold"]["oracle"] == results.blocks[1].differences["gold"]["oracle"]


def test_gold_is_compared_only_where_every_method_has_it(samples):
    fronts = read_fronts(samples, OBJECTIVES)
    bare = [Front(f.method, f.objectives, f.prompts, f.preferences, f.reward, None, f.kl, f.tokens) for f in fronts]
    assert compare(bare).units == ("reward",)
    assert compare(fronts).units == ("gold", "reward")


def test_the_seed_fixes_the_intervals_and_never_the_estimate(samples):
    fronts = read_fronts(samples, OBJECTIVES)
    estimates = [compare(fronts, seed=s).blocks[0].metrics["gold"]["bone"]["inner_product"] for s in (0, 0, 1)]
    assert estimates[0] == estimates[1]
    assert estimates[0] != estimates[2]
    assert estimates[0].value == pytest.approx(estimates[2].value)


def test_a_ratio_to_nothing_is_left_out():
    grid = lattice(2, 2)
    below = np.full((20, 3, 2), -3.0)
    block = compare([made("rewarded", grid, below), made("bone", grid, below + 4)]).blocks[0]
    assert block.ratios["reward"]["bone"] == {}
    assert block.differences["reward"]["bone"]["hypervolume@-1"].value == pytest.approx(4)


def test_what_cannot_be_compared_is_refused():
    grid = lattice(2, 2)
    reward = np.zeros((4, 3, 2))
    with pytest.raises(ValueError, match="no method besides sft"):
        compare([made("sft", grid[:1], reward[:, :1])])
    other = made("oracle", np.array([[0.3, 0.7]]), reward[:, :1])
    with pytest.raises(ValueError, match="oracle shares no preference"):
        compare([made("bone", grid, reward), other])
    with pytest.raises(ValueError, match="same prompts"):
        compare([made("bone", grid, reward), made("rewarded", grid, reward[:3])])
