"""Predictions are compared with measurements, hits and misses alike."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from bonesoup.study import predictions, results, table

ROOT = Path(__file__).parents[2]


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
    assert re.search(r"Correlation of the gains over settings -0\.\d\d\.\n- At the vertices", text)


def test_vertices_are_compared_before_and_after_the_cost_of_extrapolation(cells):
    """Nothing is gained or lost at the vertices here, and theory says -.06 to -.08, with extrapolation .1 less."""
    (row,) = predictions.compare(["right"], cells)
    assert row.vertices_missed == pytest.approx((-0.06, -0.07, -0.08))
    assert row.vertices_predicted == pytest.approx((-0.16, -0.17, -0.18))
    text = predictions.markdown([row])
    assert "| −0.070 ± 0.025 | −0.170 ± 0.025 | 0.000 ± 0.000 |" in text
    assert "off by 0.170 on average, and by 0.070 without the cost of extrapolation (3 cells)." in text


def test_cells_that_ran_before_extrapolation_was_measured_show_what_they_hold(cells):
    for cell in cells:
        if cell["diagnosis"]:
            del cell["diagnosis"]["soups"], cell["diagnosis"]["prediction"]["reward"]["extrapolating"]
    (row,) = predictions.compare(["right"], cells)
    assert row.vertices_missed == pytest.approx((-0.16, -0.17, -0.18))
    assert row.vertices_predicted == ()
    shown = table.markdown(["right"], cells)
    assert "with extrapolation" not in shown
    assert "At the vertices the prediction" not in shown
    assert "Every soup's gain" not in shown


def test_every_soup_is_compared_where_it_was_trained(cells):
    for cell in cells:
        if cell["diagnosis"]:
            cell["diagnosis"]["soups"]["lattice"] = {"interior": 0.1, "grid": 0.1, "vertices": 0.0}
    (row,), misses = predictions.soups(["right"], cells)
    assert misses.startswith("Single predictions are off by this much on average: interior 0.050, grid 0.000, vertices")
    assert row == {
        "setting": "right",
        "method": "Bone Soup",
        "seeds": "3",
        "interior, predicted": "+0.070 ± 0.025",
        "interior, measured": "+0.120 ± 0.025",
        "grid, predicted": "0.000 ± 0.000",
        "grid, measured": "0.000 ± 0.000",
        "vertices, predicted": "−0.170 ± 0.025",
        "vertices, measured": "0.000 ± 0.000",
    }


def test_the_study_shows_it_if_there_is_a_diagnosis(cells):
    shown = table.markdown(["right"], cells)
    assert "| right | 3 | +0.070 ± 0.025 | win | +0.120 ± 0.025 | win | 3 of 3 |" in shown
    assert "predicted" not in table.markdown([], [row for row in cells if row["setting"] == "untold"])


def test_the_predictions_of_stored_cells_are_of_todays_rule():
    """The bench predicts every soup of `middle` from what its cells measured; it refuses a cell that says otherwise."""
    done = subprocess.run([sys.executable, "bench/extrapolation.py"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"^all +together", done.stdout, re.MULTILINE)) == 1
