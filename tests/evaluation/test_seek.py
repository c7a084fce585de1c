"""The search for beta: hypervolumes of the probes, paired by prompt."""

import numpy as np

from bonesoup.evaluation.samples import Front
from bonesoup.evaluation.seek import compare_betas
from bonesoup.method.front import hypervolume
from bonesoup.method.preferences import lattice

GRID = lattice(2, 4)


def front(height: float, noise: float = 0.2, prompts: int = 100) -> Front:
    effect = np.random.default_rng(0).normal(0, 1, (prompts, 1, 1))
    points = GRID + height
    reward = points[None] + effect + np.random.default_rng(round(height * 100)).normal(0, noise, (prompts, 5, 2))
    still = np.ones((prompts, 5))
    return Front("x", ("a", "b"), tuple(map(str, range(prompts))), GRID, reward, None, still, still)


def test_each_beta_has_the_hypervolume_of_its_mean_front():
    fronts = {0.6: front(0.0), 0.7: front(0.1), 0.8: front(0.3)}
    found = compare_betas(fronts, 0.7, -1, 200, 0.95, 0)
    for one in found:
        expected = hypervolume(fronts[one["beta"]].reward.mean(axis=0), [-1, -1])
        np.testing.assert_allclose(one["hypervolume"]["value"], expected)
        assert one["scored"] == 100 * len(GRID)
    low, kept, high = found
    assert low["difference"]["high"] < 0 < high["difference"]["low"]
    assert kept["difference"] == {"value": 0, "low": 0, "high": 0}


def test_pairing_finds_what_prompts_alone_would_hide():
    """Prompts differ by far more than the betas do; on the same prompts the difference is still clear."""
    found = compare_betas({0.7: front(0.1, 0.01), 0.8: front(0.12, 0.01)}, 0.7, -1, 200, 0.95, 0)
    assert found[1]["difference"]["low"] > 0
    assert found[1]["hypervolume"]["low"] < found[0]["hypervolume"]["high"]
