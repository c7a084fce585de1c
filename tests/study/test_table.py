"""The table agrees with the seeds' results, and claims no more."""

import re

import pytest

from bonesoup.study import results, table
from bonesoup.study.statistics import mean

BONE = {3: (0.10, 0.02), 5: (0.12, 0.06), 6: (0.17, 0.07)}


@pytest.fixture
def text(cell) -> str:
    for seed, (bone, gold) in BONE.items():
        cell("default", seed, bone, gold)
        cell("kl-high", seed, bone=0.02 * (seed - 4), gold=0.01 * (seed - 4.5))
    cell("short", 3, bone=-0.1, gold=-0.2)
    return table.markdown(["default", "short"], results.read("small"))


def rows(text: str, heading: str) -> list[dict[str, str]]:
    """Read the rows of the table under a heading, by column."""
    block = re.search(rf"\*\*{heading}.*?\*\*\n\n(.*?)(\n\n|\Z)", text, re.DOTALL)[1]
    head, _, *lines = ([cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines())
    return [dict(zip(head, line, strict=True)) for line in lines]


def test_settings_stand_in_the_order_of_the_study_then_the_others(text):
    order = [(row["setting"], row["method"]) for row in rows(text, "Against")]
    assert order == [
        (setting, method)
        for setting in ("default", "short", "kl-high")
        for method in ("Bone Soup", "Oracle (MORLHF) †")
    ]


def test_a_difference_is_the_mean_over_seeds_with_its_interval_and_effect(text):
    row = rows(text, "Against")[0] | rows(text, "The same differences")[0]
    gold = mean([gold for _, gold in BONE.values()])
    assert row["Interior, gold"] == f"+0.050 ± {gold.half:.3f}"
    assert row["d_z, gold"] == f"{gold.effect:+.1f}"
    assert row["Interior, learned"].startswith("+0.130 ± ")
    assert (row["seeds"], row["prompts ±"]) == ("3", "0.010")
    assert row["Vertices"] == "−0.100 ± 0.000"
    assert row["HV ratio"] == "×1.250 [1.250, 1.250]"


def test_what_survives_in_gold_is_told_only_of_a_sure_gain(text):
    first, _, short, _, high, _ = rows(text, "Against")
    assert first["survives in gold"] == "38%"
    assert (short["survives in gold"], high["survives in gold"]) == ("", "")


def test_the_oracle_is_compared_on_its_own_grid(text):
    bone, oracle = rows(text, "Against")[:2]
    assert bone["to the oracle"].startswith("−0.150 ± ")
    assert oracle["to the oracle"] == ""
    assert oracle["Interior, gold"] == "+0.200 ± 0.000"


def test_one_seed_has_no_interval(text):
    row = rows(text, "Against")[2]
    assert (row["setting"], row["seeds"], row["Interior, gold"]) == ("short", "1", "−0.200")


def test_every_setting_stands_ahead_level_or_behind_also_the_lost_ones(text):
    bone, whole, ends, oracle, *_ = rows(text, "Settings in which")
    assert bone == {
        "method": "Bone Soup",
        "where": "interior",
        "ahead": "",
        "level": "default, kl-high",
        "behind": "",
        "one seed only": "short",
        "cells ahead, behind": "4, 2 of 7",  # intervals over prompts are .01 to each side
    }
    assert (whole["where"], whole["level"], whole["cells ahead, behind"]) == (
        "whole grid",
        "default, kl-high",
        "0, 0 of 7",
    )
    assert (ends["where"], ends["behind"], ends["one seed only"]) == ("vertices", "default, kl-high", "short")
    assert (oracle["method"], oracle["ahead"]) == ("Oracle (MORLHF)", "default, kl-high")


def test_chosen_scales_are_named_where_any_was_offered():
    cells = [
        {"setting": "scaled", "scales": {"rewarded": [1.0, 1.0], "bone": [1.25, 1.0], "sft": None}},
        {"setting": "scaled", "scales": {"rewarded": [1.67, 1.67], "bone": [1.0, 1.0], "sft": None}},
        {"setting": "plain", "scales": {"rewarded": None, "bone": None}},
    ]
    assert table.scales(["scaled", "plain"], cells).splitlines() == [
        "- scaled: Rewarded Soup chose 1, 1.67 (1: none).",
        "- scaled: Bone Soup chose 1.25/1, 1 (1: none).",
    ]
    assert table.scales(["plain"], cells) == ""


def test_levels_show_what_the_differences_are_differences_of(text):
    levels = {row["method"]: row for row in rows(text, "Levels") if row["setting"] == "default"}
    assert levels["Rewarded Soup"]["Interior"] == "0.500 ± 0.000"
    assert levels["SFT"]["Interior"].startswith("0.000")


def test_costs_are_means_over_seeds(text):
    bone = next(row for row in rows(text, "Costs") if (row["setting"], row["method"]) == ("default", "Bone Soup"))
    assert (bone["Updates"], bone["Scored"], bone["Training, s"]) == ("120", "15,360", "8")


def test_the_note_says_where_and_how_it_was_measured(text):
    assert "Cells: 7; seeds: 3, 5, 6; test prompts each: 64." in text
    assert "Measured at 0123456 on " in text


def test_without_gold_the_learned_reward_is_all_there_is(cell):
    for seed, (bone, gold) in BONE.items():
        cell("default", seed, bone, gold)
    cells = results.read("small")
    for result in cells:
        for grid in result["grids"].values():
            del grid["gold"]
    row = rows(table.markdown([], cells), "Against")[0]
    assert not [column for column in row if "gold" in column]
    assert row["Interior, learned"].startswith("+0.130 ± ")


def test_on_real_data_the_judge_stands_where_gold_stands(cell):
    for seed, (bone, gold) in BONE.items():
        cell("default", seed, bone, gold)
    cells = results.read("small")
    for result in cells:
        for grid in result["grids"].values():
            grid["judge"] = grid.pop("gold")
    text = table.markdown([], cells)
    row = rows(text, "Against")[0] | rows(text, "The same differences")[0]
    assert not [column for column in row if "gold" in column]
    assert row["Interior, judge"].startswith("+0.050 ± ")
    assert (row["survives in judge"], row["prompts ±"]) == ("38%", "0.010")
    assert row["Vertices"] == "−0.100 ± 0.000", "the other columns are of the truest score"


def test_a_study_with_nothing_finished_has_no_table():
    with pytest.raises(ValueError, match="no cell is finished"):
        table.markdown([], [])


def test_seeds_and_settings_choose_what_is_shown(request, monkeypatch):
    """On the committed results of a study: the level of one seed is that of its cell."""
    monkeypatch.chdir(request.config.rootpath)
    shown = table.of_study("smollm2", seeds=[0], settings=["rivals"])
    assert "Cells: 1; seeds: 0;" in shown
    (cell,) = (row for row in results.read("smollm2") if (row["setting"], row["seed"]) == ("rivals", 0))
    level = next(row for row in rows(shown, "Levels") if row["method"] == "Rewarded Soup")
    expected = cell["grids"]["full_grid"]["reward"]["methods"]["rewarded"]["inner_product"][0]
    assert float(level["Inner product"]) == pytest.approx(expected, abs=5e-4)
