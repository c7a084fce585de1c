"""The measured front agrees with the samples and with the comparison that the report prints."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import sem

from bonesoup.evaluation.point import measured
from bonesoup.evaluation.samples import read_fronts
from bonesoup.evaluation.statistics import Statistics


@pytest.fixture
def fronts(samples):
    return read_fronts(samples, ["helpful", "harmless"])


def test_points_are_the_means_of_the_gold_scores_with_their_intervals(fronts):
    summary = measured(fronts, Statistics(2000, 0.95, 0))
    assert summary["unit"] == "gold"
    assert {method: len(points) for method, points in summary["methods"].items()} == {
        front.method: len(front.preferences) for front in fronts
    }
    for front in fronts:
        for place, point in enumerate(summary["methods"][front.method]):
            scores = front.gold[:, place]
            np.testing.assert_allclose(point["mean"], scores.mean(axis=0))
            np.testing.assert_allclose(point["preference"], front.preferences[place])
            # With 300 prompts the percentile interval is the normal one to a few per cent.
            half = (np.array(point["high"]) - np.array(point["low"])) / 2
            np.testing.assert_allclose(half, 1.96 * sem(scores), rtol=0.15)


def test_without_a_true_score_the_learned_reward_stands_in(fronts):
    summary = measured([replace(front, gold=None) for front in fronts], Statistics(10, 0.9, 0))
    assert summary["unit"] == "reward"
    for front in fronts:
        np.testing.assert_allclose(summary["methods"][front.method][-1]["mean"], front.reward[:, -1].mean(axis=0))
