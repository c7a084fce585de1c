"""A scale or a beta is chosen only if it is admissible and better by more than noise."""

import numpy as np
import pytest

from bonesoup.evaluation.choices import choose_method, choose_scale, compare_betas
from bonesoup.evaluation.samples import Front
from bonesoup.evaluation.statistics import Statistics
from bonesoup.method.front import hypervolume
from bonesoup.method.preferences import lattice

POINTS = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
SCALES = [1.0, 1.25, 1.5, 2.0]
GRID = lattice(2, 4)


def front(gain, kl=2.0, noise=0.3, prompts=200, gold=True):
    """Map a scale to a front with utility gain(scale) above a prompt effect; gold falls if `gold` is a function."""

    def at(scale: float) -> Front:
        rng = np.random.default_rng(round(scale * 1000))
        effect = np.random.default_rng(1).normal(0, 1, (prompts, 1, 1))
        learned = effect + gain(scale) + rng.normal(0, noise, (prompts, 3, 2))
        true = effect + (gold(scale) if callable(gold) else gain(scale)) + rng.normal(0, noise, (prompts, 3, 2))
        moved = np.full((prompts, 3), kl * scale**2)
        return Front("bone", ("a", "b"), ("p",) * prompts, POINTS, learned, true if gold else None, moved, moved)

    return at


def choose(make, kl=100.0):
    return choose_scale(make, SCALES, kl, Statistics(300, 0.95, 0))


def test_the_best_scale_is_chosen():
    scale, table = choose(front(lambda s: -((s - 1.5) ** 2)))
    assert scale == 1.5
    assert [row["scale"] for row in table] == SCALES
    assert table[0]["gain"] == {"value": 0, "low": 0, "high": 0}


def test_what_is_not_distinguishable_from_none_stays_none():
    assert choose(front(lambda s: 0.01 * s, noise=2.0))[0] == 1


def test_noise_alone_is_seldom_taken_for_a_gain():
    """The level holds for the whole choice: of 40 choices without any gain, about one may report a gain."""

    def flat(scale: float, seed: int) -> Front:
        scores = np.random.default_rng([seed, round(scale * 99)]).normal(0, 1, (60, 3, 2))
        return Front("bone", ("a", "b"), ("p",) * 60, POINTS, scores, None, np.zeros((60, 3)), np.zeros((60, 3)))

    chosen = [choose_scale(lambda s, k=k: flat(s, k), SCALES, 9, Statistics(400, 0.95, k))[0] for k in range(40)]
    taken = sum(scale != 1 for scale in chosen)
    assert taken <= 4


def test_gold_decides_where_there_is_one_however_the_learned_reward_grows():
    scale, table = choose(front(lambda s: s, gold=lambda s: -s))
    assert scale == 1
    assert {row["unit"] for row in table} == {"gold"}
    assert choose(front(lambda s: s, gold=None))[0] == 2


@pytest.mark.parametrize(("kl", "expected"), [(100, 2.0), (5, 1.5), (2.5, 1.0)])
def test_a_scale_that_moves_too_far_is_out(kl, expected):
    assert choose(front(lambda s: s), kl=kl)[0] == expected


def probe(height: float, noise: float = 0.2, prompts: int = 100) -> Front:
    effect = np.random.default_rng(0).normal(0, 1, (prompts, 1, 1))
    points = GRID + height
    reward = points[None] + effect + np.random.default_rng(round(height * 100)).normal(0, noise, (prompts, 5, 2))
    still = np.ones((prompts, 5))
    return Front("x", ("a", "b"), tuple(map(str, range(prompts))), GRID, reward, None, still, still)


def test_each_beta_has_the_hypervolume_of_its_mean_front():
    fronts = {0.6: probe(0.0), 0.7: probe(0.1), 0.8: probe(0.3)}
    candidates = compare_betas(fronts, 0.7, -1, Statistics(200, 0.95, 0))
    for candidate in candidates:
        expected = hypervolume(fronts[candidate["beta"]].reward.mean(axis=0), [-1, -1])
        np.testing.assert_allclose(candidate["hypervolume"]["value"], expected)
        assert candidate["scored"] == 100 * len(GRID)
    low, kept, high = candidates
    assert low["difference"]["high"] < 0 < high["difference"]["low"]
    assert kept["difference"] == {"value": 0, "low": 0, "high": 0}


def test_pairing_finds_what_prompts_alone_would_hide():
    """Prompts differ by far more than the betas do; on the same prompts the difference is still clear."""
    candidates = compare_betas({0.7: probe(0.1, 0.01), 0.8: probe(0.12, 0.01)}, 0.7, -1, Statistics(200, 0.95, 0))
    assert candidates[1]["difference"]["low"] > 0
    assert candidates[1]["hypervolume"]["low"] < candidates[0]["hypervolume"]["high"]


def contender(method: str, gain: float, noise: float = 0.2, seed: int = 0, gold: float | None = None) -> Front:
    rng = np.random.default_rng([seed, *method.encode()])
    effect = np.random.default_rng(seed).normal(0, 1, (120, 1, 1))
    learned, true = (effect + more + rng.normal(0, noise, (120, 3, 2)) for more in (gain, gold or gain))
    still = np.ones((120, 3))
    prompts = tuple(map(str, range(120)))
    return Front(method, ("a", "b"), prompts, POINTS, learned, None if gold is None else true, still, still)


def test_the_soup_that_is_ahead_is_chosen_and_the_best_of_several():
    fronts = [contender("bone", 0), contender("rewarded", 0.2), contender("curved", 0.4)]
    method, table = choose_method(fronts, Statistics(300, 0.95, 0))
    assert method == "curved"
    for row, front in zip(table, fronts, strict=True):
        assert row["utility"] == pytest.approx((front.reward * POINTS).sum(axis=2).mean())
    assert table[0]["gain"] == {"value": 0, "low": 0, "high": 0}


def test_the_first_soup_stays_where_none_is_distinguishably_ahead():
    behind = [contender("bone", 0), contender("rewarded", -0.2), contender("curved", 0.001, noise=2)]
    assert choose_method(behind, Statistics(300, 0.95, 0))[0] == "bone"
    taken = [
        choose_method([contender(m, 0, 1, seed) for m in ("bone", "rewarded", "curved")], Statistics(400, 0.95, seed))
        for seed in range(40)
    ]
    assert sum(method != "bone" for method, _ in taken) <= 4


def test_the_score_that_can_be_trusted_most_chooses():
    fronts = [contender("bone", 0, gold=0.3), contender("curved", 0.5, gold=-0.3)]
    assert choose_method(fronts, Statistics(300, 0.95, 0))[0] == "bone"
