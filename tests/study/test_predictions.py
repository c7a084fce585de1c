"""Predictions are compared with measurements, hits and misses alike."""

import re

import pytest

from bonesoup.study import predictions, results, table


@pytest.fixture
def cells(cell) -> list[dict]:
    for seed in (1, 2, 3):
        # Intervals over prompts are .01 to each side.
        cell("right", seed, bone=0.10 + seed / 100, gold=0.1, predicted=0.05 + seed / 100)
        cell("wrong", seed, bone=-0.10 - seed / 100, gold=0.1, predicted=0.15 + seed / 100)
        # Seed 2 alone is a tie, as predicted.
        cell("mixed", seed, bone=(seed - 2) / 10, gold=0.1, predicted=0.001 * (seed - 2))
    cell("single", 1, bone=0.2, gold=0.1, predicted=0.1)
    cell("untold", 1, bone=0.2, gold=0.1)
    return results.read("small")


def test_a_cell_is_a_hit_if_its_verdict_was_predicted(cells):
    compared = predictions.compare(["right", "wrong", "mixed", "single", "untold"], cells)
    assert [(row.setting, row.hits, row.measured.seeds) for row in compared] == [
        ("right", 3, 3),
        ("wrong", 0, 3),
        ("mixed", 1, 3),
        ("single", 1, 1),
    ]
    assert compared[0].predicted.value == pytest.approx(0.07)
    assert compared[0].measured.value == pytest.approx(0.12)


def test_a_repeated_cell_counts_once(cell):
    cell("first", 1, bone=0.2, gold=0.1, predicted=0.1)
    cell("again", 1, bone=0.2, gold=0.1, predicted=0.1)
    cell("again", 2, bone=0.2, gold=0.1, predicted=0.1)
    compared = predictions.compare(["first", "again"], results.read("small"))
    assert [(row.setting, row.measured.seeds) for row in compared] == [("first", 1), ("again", 1)]


def test_misses_are_named(cells):
    text = predictions.summary(predictions.compare(["right", "wrong", "mixed", "single"], cells))
    assert "5 of 10 cells" in text
    assert "3 win/lose" in text
    assert '"always a win" would be right in 5 of 10.' in text
    # Seed 3 of `wrong` and `single`.
    assert "Measured minus predicted gain: -0.310 to +0.100" in text
    assert "2 of 3 settings by their intervals over seeds; missed: wrong (predicted win, measured lose)." in text
    assert re.search(r"Correlation of the gains over settings -0\.\d\d\.$", text)


def test_the_study_shows_it_if_there_is_a_diagnosis(cells):
    shown = table.markdown(["right"], cells)
    assert "| right | 3 | +0.070 ± 0.025 | win | +0.120 ± 0.025 | win | 3 of 3 |" in shown
    assert "predicted" not in table.markdown([], [row for row in cells if row["setting"] == "untold"])
