"""Quality of the answers to a preference, from samples to report.json and its table."""

import json

import numpy as np
import pytest
from rich.console import Console

from bonesoup.cli import show
from bonesoup.evaluation import quality, report, tables
from bonesoup.evaluation.compare import evaluate
from bonesoup.evaluation.markdown import markdown
from bonesoup.evaluation.metrics.asked import nearest_shares
from bonesoup.evaluation.samples import read_fronts
from bonesoup.evaluation.statistics import Statistics
from bonesoup.files import write_json

OBJECTIVES = ["helpful", "harmless"]
STATISTICS = Statistics(60, 0.95, 0)


@pytest.fixture
def fronts(samples):
    return read_fronts(samples, OBJECTIVES)


@pytest.fixture
def results(fronts):
    return evaluate(fronts, [-1, -2], 0.2, STATISTICS)


@pytest.fixture
def document(fronts, results):
    return tables.document(results) | {"quality": quality.quality(fronts, results, STATISTICS)}


def test_every_method_that_follows_a_preference_is_measured_on_every_grid(document, tmp_path):
    write_json(tmp_path / "report.json", document)
    found = json.loads((tmp_path / "report.json").read_text(), parse_constant=pytest.fail)["quality"]
    assert {grid: set(units["gold"]["methods"]) for grid, units in found.items()} == {
        "full_grid": {"rewarded", "bone"},
        "oracle_grid": {"rewarded", "bone", "oracle"},
    }
    assert set(found["full_grid"]) == {"gold", "reward"}
    bone = found["full_grid"]["gold"]["methods"]["bone"]
    assert len(bone["regret_at"]) == len(bone["pareto_at"]) == 11
    assert set(bone["moved"]["helpful"]) == {"helpful", "harmless", "kl", "tokens"}
    assert bone["moved"]["helpful"]["helpful"]["value"] > 0 > bone["moved"]["helpful"]["harmless"]["value"]


def test_the_headline_is_a_mean_over_drawn_users_and_its_difference_is_paired(fronts, document):
    methods = document["quality"]["full_grid"]["gold"]["methods"]
    by_name = {front.method: front for front in fronts}
    shares = nearest_shares(by_name["bone"].preferences)
    reached = {m: (by_name[m].gold.mean(axis=0) * shares).sum() for m in ("rewarded", "bone")}
    for method, value in reached.items():
        assert methods[method]["expected_utility"]["value"] == pytest.approx(value)
    gap = methods["bone"]["expected_utility_difference"]
    assert gap["value"] == pytest.approx(reached["bone"] - reached["rewarded"])
    assert "expected_utility_difference" not in methods["rewarded"]
    # Prompts that are hard for both cancel: the interval is narrower than those of the methods.
    width = {key: e["high"] - e["low"] for key, e in methods["bone"].items() if key.startswith("expected")}
    assert 0 < width["expected_utility_difference"] < width["expected_utility"] / 2
    assert quality.headline(document, "bone") == gap
    tile = report._headline(document, "bone")[0]
    assert (tile["label"], tile["text"]) == ("expected utility", tables.number("", gap["value"], True))


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.01, 0.03, "better than"), (-0.03, -0.01, "worse than"), (-0.01, 0.03, "level with")],
)
def test_the_summary_says_in_a_line_what_a_method_gives_a_preference(document, low, high, verdict):
    gap = {"value": (low + high) / 2, "low": low, "high": high}
    document["quality"]["full_grid"]["gold"]["methods"]["bone"]["expected_utility_difference"] = gap
    (line,) = quality.headlines(document)
    shown = tables.with_interval("", gap, True)
    assert line == f"Over random preferences Bone Soup is {verdict} Rewarded Soup: expected utility {shown}, gold."
    console = Console(width=110, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(show.report(document))
    assert line in " ".join(console.export_text().split())


def test_regret_is_nothing_for_the_best_and_adds_up(document):
    methods = document["quality"]["oracle_grid"]["gold"]["methods"]
    assert np.min([found["regret_at"] for found in methods.values()], axis=0) == pytest.approx(0)
    for found in methods.values():
        assert found["regret"]["value"] == pytest.approx(np.mean(found["regret_at"]))
        assert found["worst_regret"]["value"] == pytest.approx(max(found["regret_at"]))


def test_the_table_has_a_row_for_each_method_and_a_reading_help(document):
    (gold, learned) = quality.listed(document)
    assert gold[0] == "What a preference gets, full grid: gold (true) score"
    assert [row[0] for row in gold[2]] == ["Rewarded Soup", "Bone Soup"]
    assert all(len(row) == len(quality.HEADINGS) for _, _, rows in (gold, learned) for row in rows)
    text = markdown(document)
    assert f"**{learned[0]}**" in text
    assert "Expected utility is the headline" in text
    older = {key: value for key, value in document.items() if key != "quality"}
    assert quality.listed(older) == quality.note(older) == quality.headlines(older) == []
    assert quality.headline(older, "bone") is None
