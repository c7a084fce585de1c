"""Refusals are counted per method and preference, with Wilson's intervals."""

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from scipy.stats import norm

from bonesoup.cli import show
from bonesoup.evaluation import refusals
from bonesoup.evaluation.compare import evaluate
from bonesoup.evaluation.markdown import markdown
from bonesoup.evaluation.samples import read_fronts
from bonesoup.evaluation.statistics import Statistics
from bonesoup.evaluation.tables import document

OBJECTIVES = ["helpful", "harmless"]


@pytest.fixture
def refusing(samples):
    """Let Bone Soup refuse the first 6k of 64 prompts at point k, the base 5, the others none."""
    for method, path in samples.items():
        rows = pd.read_parquet(path)
        count = {"bone": 6 * rows["point"], "sft": 5}.get(method, 0)
        number = rows["prompt_id"].str[-4:].astype(int)
        rows["response"] = np.where(number < count, "I'm sorry, I can't help with that.", "I can't say how much.")
        rows.to_parquet(path)
    return samples


def test_shares_and_intervals_are_those_of_the_answers(refusing):
    counts = refusals.refusals(refusing, OBJECTIVES, 0.9)
    assert [point["value"] for point in counts["bone"]] == [6 * k / 64 for k in range(11)]
    assert [point["preference"] for point in counts["bone"]] == [[k / 10, (10 - k) / 10] for k in range(11)]
    assert {point["value"] for point in counts["rewarded"]} == {0}
    for point in counts["bone"]:
        # The ends are the true shares p whose test by (share - p) / sqrt(p (1 - p) / n) is just passed.
        for p in (point["low"], point["high"]):
            if 0 < p < 1:
                z = (point["value"] - p) / np.sqrt(p * (1 - p) / 64)
                assert abs(z) == pytest.approx(norm.ppf(0.95))
    assert counts["bone"][0]["low"] == 0


def test_the_table_has_a_row_for_each_preference_and_the_base_in_each(refusing):
    results = evaluate(read_fronts(refusing, OBJECTIVES), [-1], 0.2, Statistics(50, 0.95, 0))
    report = document(results) | {"refusals": refusals.refusals(refusing, OBJECTIVES, 0.95)}
    table = refusals.rows(report)
    assert refusals.headings(report) == ["", "SFT", "Rewarded Soup", "Bone Soup", "Oracle (MORLHF)"]
    assert [row[0] for row in table[:2]] == ["helpful 0, harmless 1", "helpful 0.1, harmless 0.9"]
    assert {row[1] for row in table} == {"8% [3, 17]"}
    assert table[10][3].startswith("94% [")
    # The oracle answers five of the eleven.
    assert [bool(row[4]) for row in table] == [k in (0, 3, 5, 7, 10) for k in range(11)]
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(show.report(report))
    for text in (console.export_text(), markdown(report)):
        assert "Answers that refuse" in text
        assert "94% [" in text
    assert "refuse" not in markdown(document(results))


def test_a_method_with_one_preference_has_a_share_in_its_row_alone():
    """And it is found although the weights of policies are rounded."""
    share = {"value": 0.5, "low": 0.4, "high": 0.6}
    grid = [[1 / 3, 2 / 3], [0.5, 0.5], [2 / 3, 1 / 3]]
    shares = {
        "sft": [{"preference": grid[0]} | share],
        "bone": [{"preference": point} | share for point in grid],
        "oracle": [{"preference": [0.333333333, 0.666666667]} | share],
    }
    table = refusals.rows({"objectives": OBJECTIVES, "refusals": shares})
    assert [[bool(cell) for cell in row[1:]] for row in table] == [[True, True, True], [True, True, False]] + [
        [True, True, False]
    ]
