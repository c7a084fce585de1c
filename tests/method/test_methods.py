"""The table of methods: everything that tells methods apart comes from it."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from bonesoup.method.basis import circulant
from bonesoup.method.mappings import MAPPINGS
from bonesoup.method.methods import METHODS, Plan, Policies, method_slots, trainings
from bonesoup.settings.schema import Settings

PLAN = Plan.of(circulant(3, 0.7), [[0.2, 0.3, 0.5], [1, 0, 0]])
KINDS = [("specialist", 3), ("backbone", 3), ("oracle", 2)]


def test_settings_take_every_method_of_the_table_and_no_other():
    (choices,) = get_args(Settings.model_fields["methods"].annotation)
    assert get_args(choices) == tuple(METHODS)


def test_documents_name_every_method():
    text = Path("docs/rivals.md").read_text()
    assert [key for key in METHODS if f"`{key}`" not in text] == []


def test_methods_can_be_told_apart_in_a_figure():
    looks = [(method.colours, method.marker) for method in METHODS.values()]
    assert len(set(looks)) == len({colours for colours, _ in looks}) == len(METHODS)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_a_method_answers_what_it_says(method):
    rows = trainings(METHODS, PLAN, 60)
    table = np.array([rows[slot].row for slot in method_slots(method.key, PLAN)]).reshape(-1, 3)
    answer = MAPPINGS[method.mapping].coefficients
    if method.answers == "rows":
        for row in table:
            np.testing.assert_allclose(table.T @ answer(table, row, None), row)
        with pytest.raises(ValueError, match=r"no policy for preference \[0.4, 0.6, 0.0\]"):
            answer(table, np.array([0.4, 0.6, 0]), None)
        return
    solved = answer(table, np.array([0.4, 0.6, 0]), None)
    assert solved.shape == (len(table),)
    if len(table):
        # A correction comes on top of a mixture that is whole.
        assert solved.sum() == pytest.approx(1 + 4 * 0.4 * 0.6 if method.key == "curved" else 1)
    if MAPPINGS[method.mapping].reads:
        return
    doubled = answer(table, np.array([0.4, 0.6, 0]), np.array([2.0, 2.0, 2.0]))
    np.testing.assert_allclose(doubled, 2 * solved)


def test_what_is_no_single_adapter_is_neither_exported_nor_served():
    assert {key for key, method in METHODS.items() if not method.exportable} == {
        "sft",
        "mod",
        "ric",
        "prompt",
        "shuffled",
    }
    assert {key for key, method in METHODS.items() if method.exportable and not method.servable} == {"oracle"}


def test_without_a_total_every_policy_gets_the_steps():
    plan = trainings(["rewarded", "bone", "oracle"], PLAN, 60)
    assert {training.steps for training in plan.values()} == {60}
    assert list(plan) == [f"{kind}-{k}" for kind, count in KINDS for k in range(1, count + 1)]


def test_a_total_is_shared_by_the_policies_of_a_method_and_not_by_oracles():
    plan = trainings(["rewarded", "bone", "mod", "oracle"], PLAN, 60, total=90)
    assert {slot.rpartition("-")[0]: training.steps for slot, training in plan.items()} == {
        "specialist": 30,
        "backbone": 30,
        "oracle": 60,
    }
    with pytest.raises(ValueError, match=r"100 updates do not divide among 3 policies .* multiple of 3, such as 99"):
        trainings(["rewarded"], PLAN, 60, total=100)


def test_adapters_that_are_trained_together_take_the_total_in_one_schedule():
    plan = trainings(["clp"], PLAN, 60)
    assert list(plan) == ["clp-1", "clp-2", "clp-3"]
    assert {one.steps for one in plan.values()} == {180}
    assert {one.together for one in plan.values()} == {("clp-1", "clp-2", "clp-3")}
    assert {one.steps for one in trainings(["clp"], PLAN, 60, total=100).values()} == {100}


def test_a_policy_that_reads_the_preference_takes_the_total():
    plan = trainings(["prompt", "shuffled"], PLAN, 60, total=100)
    assert {slot: (one.steps, one.reads) for slot, one in plan.items()} == {
        "prompt-1": (100, "own"),
        "shuffled-1": (100, "others"),
    }
    np.testing.assert_allclose(plan["prompt-1"].row, [1 / 3] * 3)
    assert trainings(["prompt"], PLAN, 60)["prompt-1"].steps == 180


def test_longer_and_shorter_schedules_and_those_that_start_from_a_soup():
    kind = Policies("x", lambda plan: np.eye(3), lengths=lambda plan: [2, 2, 1], starts=lambda plan: 2)
    assert [training.steps for training in kind.trainings(PLAN, 60, None).values()] == [60, 60, 30]
    trainings = kind.trainings(PLAN, 60, 120)
    assert [training.steps for training in trainings.values()] == [48, 48, 24]
    assert [training.start for training in trainings.values()] == [(), (), ("x-1", "x-2")]
    with pytest.raises(ValueError, match="multiple of 5, such as 120"):
        kind.trainings(PLAN, 60, 121)
