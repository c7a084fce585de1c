"""An outcome is promised as often as stated, on prompts that were not measured, whatever bound is asked for."""

import json

import numpy as np
import pytest
from scipy.stats import norm

from bonesoup.evaluation.outcomes import Unreachable, is_outcome, read_outcome, solve
from bonesoup.evaluation.point import measured
from bonesoup.evaluation.samples import Front
from bonesoup.evaluation.statistics import Statistics

OBJECTIVES = ["helpful", "harmless"]
GRID = np.array([[i / 10, 1 - i / 10] for i in range(11)])
# S-shaped, as measured fronts are: most of the change is between two neighbours.
MEANS = np.stack([np.tanh(6 * (GRID[:, 0] - 0.5)), -1.2 * np.tanh(6 * (GRID[:, 0] - 0.55))], axis=1)


def front_of(scores: np.ndarray, preferences: np.ndarray = GRID, objectives=tuple(OBJECTIVES)) -> Front:
    empty = np.zeros(scores.shape[:2])
    return Front("bone", objectives, tuple(map(str, range(len(scores)))), preferences, scores, scores, empty, empty)


def drawn(rng: np.random.Generator, prompts: int) -> np.ndarray:
    """Draw scores [prompt, grid, objective] around MEANS: skewed, as bounded scores are, and alike along the grid."""
    shared = rng.exponential(1, (prompts, 1, 2)) - 1
    return MEANS + 0.6 * shared + 0.7 * (1 - rng.exponential(1, (prompts, *MEANS.shape)))


def test_all_limits_hold_at_once_as_often_as_stated():
    rng = np.random.default_rng(0)
    statistics = Statistics(500, 0.9, 0)
    held = [bool((statistics.lower_limits(drawn(rng, 120)) <= MEANS).all()) for _ in range(400)]
    # Four standard errors of a share of 400: below it the limits promise too much, above it they waste prompts.
    assert 0.9 - 4 * 0.015 < np.mean(held) < 0.9 + 4 * 0.015


def test_a_single_mean_has_students_limit_where_scores_are_normal():
    scores = np.random.default_rng(1).normal(0.3, 2, (400, 1, 1))
    limit = Statistics(4000, 0.95, 0).lower_limits(scores)[0, 0]
    assert limit == pytest.approx(scores.mean() - norm.ppf(0.95) * scores.std() / 20, abs=0.02)


def test_a_single_prompt_limits_nothing():
    assert Statistics(10, 0.95, 0).lower_limits(np.ones((1, 2, 2))).tolist() == [[-np.inf] * 2] * 2


def test_a_promise_is_kept_on_prompts_that_were_not_measured_however_the_bound_was_chosen():
    rng = np.random.default_rng(2)
    statistics, broken, answered = Statistics(300, 0.9, 0), 0, 0
    for _ in range(200):
        front = measured([front_of(drawn(rng, 100))], statistics)
        # The bound that tempts most: the largest that these very samples can promise.
        bound = max(point["floor"][1] for point in front["methods"]["bone"])
        if rng.random() < 0.5:
            bound = float(rng.uniform(-1, 0.9))
        try:
            promise = solve(read_outcome(f"harmless>={bound!r},maximize=helpful", OBJECTIVES), front, "bone")
        except Unreachable:
            continue
        place = round(10 * promise.preference["helpful"])
        answered += 1
        broken += MEANS[place, 1] < bound or MEANS[place, 0] < promise.floor["helpful"]
    assert answered > 150
    assert broken / answered < 0.1 + 3 * np.sqrt(0.09 / answered)


def test_constant_scores_and_too_few_prompts():
    scores = np.zeros((50, 2, 2))
    scores[:, 0, 1] = np.random.default_rng(3).normal(1, 1, 50)
    limits = Statistics(200, 0.95, 0).lower_limits(scores)
    assert limits[1].tolist() == [0, 0]
    assert 0.5 < limits[0, 1] < scores[:, 0, 1].mean()
    front = measured([front_of(scores[:2], GRID[:2])], Statistics(200, 0.95, 0))
    assert json.loads(json.dumps(front, allow_nan=False))["methods"]["bone"][0]["floor"] == [0.0, None]
    with pytest.raises(Unreachable, match="2 prompts are too few"):
        solve(
            read_outcome("harmless>=9,maximize=helpful", OBJECTIVES),
            {**front, "methods": {"bone": [front["methods"]["bone"][0]]}},
            "bone",
        )


@pytest.fixture(scope="module")
def front():
    return measured([front_of(drawn(np.random.default_rng(4), 300))], Statistics(1000, 0.95, 0))


@pytest.mark.parametrize("bound", np.linspace(-1.2, 0.9, 15))
def test_the_choice_is_the_best_measured_preference_whose_limit_meets_the_bound(front, bound):
    promise = solve(read_outcome({"harmless": f">= {bound}", "maximize": "helpful"}, OBJECTIVES), front, "bone")
    points = [point for point in front["methods"]["bone"] if point["floor"][1] >= bound]
    best = max(points, key=lambda point: point["mean"][0])
    assert list(promise.preference.values()) == best["preference"]
    assert promise.floor["harmless"] >= bound
    assert (promise.unit, promise.confidence, promise.prompts) == ("gold", 0.95, 300)


def test_the_nearest_bound_that_a_refusal_names_can_be_asked_for_and_gets_the_preference_it_names(front):
    for asked in ("harmless>=5,maximize=helpful", "harmless>=0.6+helpful>=0.6+maximize:helpful"):
        with pytest.raises(Unreachable, match="cannot be promised") as caught:
            solve(read_outcome(asked, OBJECTIVES), front, "bone")
        nearest, at = str(caught.value).split("can is ")[1].split(";")[0].split(", at ")
        promise = solve(read_outcome(nearest.replace(" and ", ",") + ",maximize=helpful", OBJECTIVES), front, "bone")
        assert ",".join(f"{name}={weight:g}" for name, weight in promise.preference.items()) == at


def test_without_bounds_it_is_the_highest_mean(front):
    best = max(front["methods"]["bone"], key=lambda point: point["mean"][1])
    assert (
        list(solve(read_outcome("maximize=harmless", OBJECTIVES), front, "bone").preference.values())
        == best["preference"]
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"harmless": ">= 0.5", "maximize": "helpful"}, True),
        ("harmless>=0.5,maximize=helpful", True),
        ("harmless>=0.5+maximize:helpful", True),
        ("maximize=helpful", True),
        ({"helpful": 0.7, "harmless": 0.3}, False),
        ("helpful=0.7,harmless=0.3", False),
        ("maximize-harm", False),
    ],
)
def test_an_outcome_is_told_from_weights_and_names(value, expected):
    assert is_outcome(value) is expected
    if expected:
        assert read_outcome(value, OBJECTIVES).maximize == "helpful"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"harmless": ">= 0.5"}, "names no objective to maximize"),
        ({"harmless": ">= 0.5", "maximize": "speed"}, "unknown objectives speed"),
        ({"harmles": ">= 0.5", "maximize": "helpful"}, "unknown objectives harmles"),
        ({"harmless": "<= 0.5", "maximize": "helpful"}, "higher"),
        ({"harmless": "0.5", "maximize": "helpful"}, "expected '>= NUMBER'"),
        ({"harmless": ">= nan", "maximize": "helpful"}, "expected '>= NUMBER'"),
        ({"harmless": ">= 1e999", "maximize": "helpful"}, "expected '>= NUMBER'"),
        ("harmless>=0.5,harmless>=0.6,maximize=helpful", "twice"),
        ("harmless>=0.5,,maximize=helpful", "no part of an outcome"),
    ],
)
def test_what_is_no_outcome_is_refused_with_the_reason(value, message):
    with pytest.raises(ValueError, match=message):
        read_outcome(value, OBJECTIVES)


def test_a_front_without_limits_and_a_method_that_was_not_measured(front):
    outcome = read_outcome("harmless>=0,maximize=helpful", OBJECTIVES)
    old = {"methods": {"bone": [{"preference": [1, 0], "mean": [0, 0]}]}}
    for given, message in (
        (None, "no measured front"),
        (front | {"methods": {}}, "no measured front"),
        (old, "stage report"),
    ):
        with pytest.raises(ValueError, match=message):
            solve(outcome, given, "bone")
