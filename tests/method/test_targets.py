"""Rewards-in-Context: the rewards that a preference asks for, and the filter of the online rounds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bonesoup.method.targets import near_front, phases, target_rewards

LOW, HIGH = [-2.0, -1.0], [2.0, 3.0]


@pytest.mark.parametrize(
    ("preference", "expected"),
    [
        ([1, 0], [2, -1]),
        ([0.5, 0.5], [2, 3]),
        ([0.75, 0.25], [2, 1]),
        ([0.1, 0.9], [-1.2, 3]),
    ],
)
def test_two_objectives_by_hand(preference, expected):
    assert target_rewards(preference, LOW, HIGH) == pytest.approx(expected)


def test_three_objectives_and_a_grid_keep_their_shape():
    grid = [[1 / 3, 1 / 3, 1 / 3], [0.6, 0.3, 0.1]]
    assert target_rewards(grid, [0, 0, 0], [1, 1, 10]) == pytest.approx(np.array([[1, 1, 10], [1, 0.9, 3]]))


@given(st.lists(st.floats(0.01, 1), min_size=2, max_size=5))
def test_more_weight_never_asks_for_less_and_somebody_gets_everything(weights):
    preference = np.array(weights) / np.sum(weights)
    n = len(weights)
    asked = target_rewards(preference, np.zeros(n), np.ones(n))
    order = np.argsort(preference)
    assert (np.diff(asked[order]) >= 0).all()
    assert asked.max() == pytest.approx(1)


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        ([0, 0, 0], [1, 1, 1], "do not fit"),
        ([2, 0], [1, 1], "lies above"),
        ([np.nan, 0], [1, 1], "finite"),
    ],
)
def test_bad_ranges_are_refused(low, high, message):
    with pytest.raises(ValueError, match=message):
        target_rewards([0.5, 0.5], low, high)


def test_a_response_stays_where_one_objective_is_among_the_best():
    rewards = [[0, 9], [1, 1], [2, 2], [3, 3], [9, 0]]
    assert near_front(rewards, 1.0).tolist() == [True, False, False, False, True]
    assert near_front(rewards, 0.7).tolist() == [True, False, False, True, True]
    assert near_front(rewards, 0.0).all()


def test_equal_rewards_all_stay():
    assert near_front(np.zeros((4, 2)), 0.9).all()


def test_a_quantile_outside_the_unit_interval_is_refused():
    with pytest.raises(ValueError, match=r"quantile must be in \[0, 1\], found 1.5"):
        near_front([[0.0, 1.0]], 1.5)


@pytest.mark.parametrize(
    ("updates", "rounds", "online", "shares"),
    [(120, 1, 0.33, [80, 40]), (120, 2, 0.5, [60, 30, 30]), (7, 3, 0.5, [4, 1, 1, 1]), (9, 0, 0.5, [9])],
)
def test_the_phases_spend_the_whole_budget(updates, rounds, online, shares):
    assert phases(updates, rounds, online) == shares
    assert sum(shares) == updates


@pytest.mark.parametrize(("updates", "rounds", "online"), [(4, 3, 0.1), (2, 2, 0.99)])
def test_a_phase_without_an_update_is_refused(updates, rounds, online):
    with pytest.raises(ValueError, match=f"{updates} updates do not reach for {rounds} online rounds"):
        phases(updates, rounds, online)
