"""Predictions are held against what was measured, hits and misses alike."""

import re

import pytest

from bonesoup.study import foretold, results, table


@pytest.fixture
def cells(cell) -> list[dict]:
    for seed in (1, 2, 3):
        # Intervals over prompts are .01 to each side.
        cell("right", seed, bone=0.10 + seed / 100, gold=0.1, foretold=0.05 + seed / 100)
        cell("wrong", seed, bone=-0.10 - seed / 100, gold=0.1, foretold=0.15 + seed / 100)
        # Seed 2 alone is a tie, as foretold.
        cell("mixed", seed, bone=(seed - 2) / 10, gold=0.1, foretold=0.001 * (seed - 2))
    cell("single", 1, bone=0.2, gold=0.1, foretold=0.1)
    cell("untold", 1, bone=0.2, gold=0.1)
    return results.read("small")


def test_a_cell_is_a_hit_where_its_verdict_was_foretold(cells):
    found = foretold.compare(["right", "wrong", "mixed", "single", "untold"], cells)
    assert [(one.setting, one.hits, one.came.seeds) for one in found] == [
        ("right", 3, 3),
        ("wrong", 0, 3),
        ("mixed", 1, 3),
        ("single", 1, 1),
    ]
    assert found[0].foretold.value == pytest.approx(0.07)
    assert found[0].came.value == pytest.approx(0.12)


def test_a_repeated_cell_counts_once(cell):
    cell("first", 1, bone=0.2, gold=0.1, foretold=0.1)
    cell("again", 1, bone=0.2, gold=0.1, foretold=0.1)
    cell("again", 2, bone=0.2, gold=0.1, foretold=0.1)
    found = foretold.compare(["first", "again"], results.read("small"))
    assert [(one.setting, one.came.seeds) for one in found] == [("first", 1), ("again", 1)]


def test_misses_are_named(cells):
    text = foretold.summary(foretold.compare(["right", "wrong", "mixed", "single"], cells))
    assert "5 of 10 cells" in text
    assert "3 win foretold and lose came" in text
    assert '"always a win": 5 of 10.' in text
    # Seed 3 of `wrong` and `single`.
    assert "Single gains came -0.310 to +0.100 off" in text
    assert "2 of 3 settings by their intervals over seeds; missed: wrong (win foretold, lose came)." in text
    assert re.search(r"Correlation of the gains over settings -0\.\d\d\.$", text)


def test_the_study_shows_it_where_there_is_a_diagnosis(cells):
    shown = table.markdown(["right"], cells)
    assert "| right | 3 | +0.070 ± 0.025 | win | +0.120 ± 0.025 | win | 3 of 3 |" in shown
    assert "foretold" not in table.markdown([], [one for one in cells if one["setting"] == "untold"])
