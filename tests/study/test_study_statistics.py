"""Intervals over seeds are the textbook's, and seeds are paired."""

import numpy as np
import pytest
from scipy import stats

from bonesoup.study.statistics import geometric, mean


def test_the_interval_is_that_of_the_paired_t_test():
    rng = np.random.default_rng(0)
    for seeds in (2, 3, 5, 10):
        base = rng.normal(0, 5, seeds)
        other = base + rng.normal(0.3, 0.2, seeds)
        interval = mean(other - base)
        wanted = stats.ttest_rel(other, base).confidence_interval(0.95)
        assert (interval.value - interval.half, interval.value + interval.half) == pytest.approx(tuple(wanted))
        # d_z = t / sqrt(n), Cohen 1988.
        assert interval.effect == pytest.approx(stats.ttest_rel(other, base).statistic / np.sqrt(seeds))
        assert interval.seeds == seeds


def test_a_seed_of_its_own_has_no_interval():
    interval = mean([0.25])
    assert (interval.seeds, interval.value, interval.half, interval.effect, interval.sign) == (1, 0.25, None, None, 0)


def test_the_sign_is_told_only_where_the_interval_leaves_out_nothing():
    assert [mean(v).sign for v in ([1, 1.1, 1.2], [-1, -1.1, -1.2], [-1, 0, 1.5], [0, 0, 0])] == [1, -1, 0, 0]


def test_seeds_that_agree_exactly_have_no_effect_size():
    interval = mean([0.5, 0.5, 0.5])
    assert (interval.half, interval.effect, interval.sign) == (0, None, 1)


def test_ratios_are_averaged_by_their_logarithms():
    # Twice as large and half as large is no change.
    value, low, high = geometric([2, 0.5])
    assert value == pytest.approx(1)
    assert low == pytest.approx(1 / high)
    value, low, high = geometric([1.1, 1.2, 1.3])
    wanted = stats.ttest_1samp(np.log([1.1, 1.2, 1.3]), 0).confidence_interval(0.95)
    assert (low, high) == pytest.approx(tuple(np.exp(wanted)))
    assert low < value < high


def test_a_ratio_of_no_volume_has_no_mean():
    assert geometric([1.2, 0.0]) is None
