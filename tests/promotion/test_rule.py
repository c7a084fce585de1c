"""The rule of promotion: its faults by key, and the score that decides."""

from dataclasses import replace

import numpy as np
import pytest
from decisions import RULE

from bonesoup.evaluation.samples import Front
from bonesoup.promotion import rule
from bonesoup.promotion.rule import unit_of


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("gains: []", ["schema: missing", "unit: missing", "gains: ", "guards: missing"]),
        (RULE.read_text().replace("unit: best", "unit: silver"), ["unit: "]),
        (RULE.read_text().replace("inner_product_interior", "goodness"), ["gains.0.metric: "]),
        (RULE.read_text().replace("min_gain: 0.0", "min_gain: -1"), ["gains.0.min_gain: "]),
        (RULE.read_text() + "\nkindness: 1\n", ["kindness: unknown key"]),
        (
            RULE.read_text().replace("kl: {max: 10.0}", "kl: {max: .inf, min: 2}"),
            ["guards.kl.max: ", "guards.kl.min: "],
        ),
    ],
)
def test_every_fault_of_a_rule_is_named_at_once(tmp_path, text, faults):
    path = tmp_path / "promotion.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match="promotion.yaml has") as error:
        rule.load(path)
    for fault in faults:
        assert fault in str(error.value)


def test_a_missing_rule_is_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere.yaml does not exist: it is the rule of promotion"):
        rule.load(tmp_path / "nowhere.yaml")


def test_the_best_score_there_is_decides():
    empty = np.zeros((2, 1, 2))
    front = Front("bone", ("a", "b"), ("x", "y"), np.ones((1, 2)) / 2, empty, None, empty[..., 0], empty[..., 0])
    judged = replace(front, judge=empty)
    applied = rule.load(RULE)
    assert unit_of(applied, [judged, judged]) == "judge"
    assert unit_of(applied, [judged, replace(judged, gold=empty)]) == "judge"
    assert unit_of(applied, [judged, front]) == "reward", "only one side has a judge"
    assert unit_of(applied.model_copy(update={"unit": "judge"}), [judged]) == "judge"


def test_the_gold_score_cannot_judge_where_it_is_not_known():
    empty = np.zeros((2, 1, 2))
    front = Front("bone", ("a", "b"), ("x", "y"), np.ones((1, 2)) / 2, empty, None, empty[..., 0], empty[..., 0])
    applied = rule.load(RULE)
    assert unit_of(applied, [front]) == "reward"
    assert unit_of(applied, [replace(front, gold=empty)]) == "gold"
    with pytest.raises(ValueError, match="the yardstick does not know"):
        unit_of(applied.model_copy(update={"unit": "gold"}), [front])
