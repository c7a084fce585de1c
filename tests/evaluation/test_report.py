"""The report: whole, self-contained, safe with untrusted text, and true to the numbers."""

import csv
import json
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from bonesoup.cli import show
from bonesoup.evaluation import plots, report, tables
from bonesoup.evaluation.compare import evaluate
from bonesoup.evaluation.markdown import markdown
from bonesoup.evaluation.report import write_report
from bonesoup.evaluation.samples import read_examples, read_fronts
from bonesoup.evaluation.statistics import Statistics
from bonesoup.files import write_json
from bonesoup.method.methods import METHODS

NAMES = {2: ["helpful", "harmless"], 3: ["helpful", "harmless", "humor"]}
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


@pytest.fixture(scope="module", params=[2, 3], ids=["two objectives", "three objectives"])
def written(request, tmp_path_factory, make_samples, make_coefficients, make_training):
    """Write a report on synthetic samples, one response hostile: (results, folder)."""
    n, tmp_path = request.param, tmp_path_factory.mktemp("report")
    names = NAMES[n]
    paths = make_samples(tmp_path / "fronts", n)
    rows = pd.read_parquet(paths["bone"])
    rows.loc[rows["prompt_id"] == "test-0000", ["prompt", "response"]] = HOSTILE
    rows.to_parquet(paths["bone"])
    results = evaluate(read_fronts(paths, names), [-1, -2], 0.2, Statistics(50, 0.95, 0))
    chosen = {
        "basis": {"condition": 2.5, "l1": 2.5, "l1_even": 1.0},
        "seek": {
            "beta": 0.8,
            "reason": "its hypervolume is distinguishably larger",
            "steps": 12,
            "full": 60,
            "cost": {"updates": 48, "scored": 9000},
            "candidates": [
                {"beta": beta, "hypervolume": {"value": 2.0}, "difference": {"value": 0.2, "low": 0.1, "high": 0.3}}
                for beta in (0.7, 0.8)
            ],
        },
        "scales": {"sft": None, "bone": [1.25] * n},
        "costs": {"bone": {"policies": n, "updates": 60 * n, "scored": 7680 * n, "held": n, "passes": 1}},
    }
    write_report(
        results,
        tables.document(results) | chosen,
        tmp_path / "report",
        main="bone",
        examples=read_examples({"bone": paths["bone"]} | paths, names, 2),
        coefficients=make_coefficients(n),
        normaliser={
            "correlation": np.eye(n).tolist(),
            "gold": {"correlation": np.eye(n).tolist(), "reward_correlation": [0.8] * n},
        },
        rewards={names[0]: {"accuracy": 0.84, "accuracy_low": 0.82, "accuracy_high": 0.86, "n": 2000}},
        training=make_training(n),
        settings="seed: 0  # <b>not markup</b>\n",
        commit="0123abcd",
    )
    return results, tmp_path / "report"


def page_data(folder) -> dict:
    page = (folder / "index.html").read_text()
    embedded = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    return json.loads(embedded[1], parse_constant=lambda name: pytest.fail(f"{name} in the page's data"))


def test_every_file_is_there_and_no_scraps(written):
    _, folder = written
    expected = {"index.html", "fronts.png", "utility.png", "training.png", "front.csv", "utility.csv"}
    assert {path.name for path in folder.iterdir()} == expected
    for path in folder.glob("*.png"):
        assert path.read_bytes().startswith(b"\x89PNG")


def test_page_needs_no_network(written):
    # Responses may well name an address: as text in the page's data it fetches nothing.
    page = re.sub(r'(id="data">).*?(</script>)', r"\1\2", (written[1] / "index.html").read_text(), flags=re.S)
    # The name of the SVG namespace is not an address that is fetched.
    assert set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\"'\s]*", page)) <= {"http://www.w3.org/2000/svg"}
    fetched = re.findall(r"(?:\bsrc=|\bhref=|url\(|@import\s+)[\"']?([^\"'\s>)]+)", page)
    assert all(target.startswith(("data:image/png;base64,", "#")) for target in fetched)
    assert "<link" not in page


def test_responses_and_settings_are_text_never_markup(written):
    _, folder = written
    page = (folder / "index.html").read_text()
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "&lt;b&gt;not markup&lt;/b&gt;" in page
    assert page.count("</script>") == 2
    assert page_data(folder)["examples"][0]["prompt"] == HOSTILE
    # The page's script must set text as text.
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write", page)


def test_page_shows_the_finding_commit_and_settings(written):
    results, folder = written
    page = (folder / "index.html").read_text()
    assert f"<h1>{tables.finding(tables.document(results))}</h1>" in page
    assert "0123abcd" in page
    assert "−1 and −2" in page


def test_page_data_is_the_results(written):
    results, folder = written
    methods = {method["key"]: method for method in page_data(folder)["methods"]}
    assert set(methods) == {"sft", "rewarded", "bone", "oracle"}
    full, oracle = results.blocks
    assert methods["bone"]["points"]["gold"] == full.points["gold"]["bone"].tolist()
    assert methods["oracle"]["points"]["gold"] == oracle.points["gold"]["oracle"].tolist()
    assert methods["oracle"]["partial"]
    assert not methods["bone"]["partial"]
    assert methods["bone"]["merge"]["policies"][0] == "backbone-1"


def test_report_json_is_json_and_agrees(written, tmp_path):
    results, _ = written
    write_json(tmp_path / "report.json", tables.document(results))
    report = json.loads((tmp_path / "report.json").read_text(), parse_constant=pytest.fail)

    def numbers(value):
        if isinstance(value, dict | list):
            for item in value.values() if isinstance(value, dict) else value:
                yield from numbers(item)
        elif not isinstance(value, str):
            yield value

    assert all(math.isfinite(value) for value in numbers(report))
    cell = report["grids"]["full_grid"]["gold"]["difference_to_rewarded"]["bone"]["inner_product_interior"]
    expected = results.blocks[0].differences["gold"]["bone"]["inner_product_interior"]
    assert (cell["value"], cell["low"], cell["high"]) == (expected.value, expected.low, expected.high)


def test_csv_is_long_and_whole(written):
    results, folder = written
    with open(folder / "front.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    names = list(results.objectives)
    assert list(rows[0]) == ["method", "unit", *(f"mu_{name}" for name in names), *names]
    full, oracle = (len(block.preferences) for block in results.blocks)
    assert len(rows) == 2 * (3 * full + oracle)
    row = next(r for r in rows if (r["method"], r["unit"]) == ("bone", "reward") and r[f"mu_{names[0]}"] == "1.0")
    expected = results.blocks[0].points["reward"]["bone"][-1]
    assert [float(row[name]) for name in names] == pytest.approx(expected)


def test_the_utility_file_is_the_same_for_any_objectives(written):
    """`dvc plots` names its columns; its values are those of front.csv, weighted."""
    results, folder = written
    with open(folder / "utility.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert list(rows[0]) == ["method", "unit", "preference", "weight", "utility", "low", "high", "grid"]
    with open(folder / "front.csv", newline="") as handle:
        points = list(csv.DictReader(handle))
    assert len(rows) == len(points)
    for row, point in zip(rows, points, strict=True):
        assert (row["method"], row["unit"]) == (point["method"], point["unit"])
        assert float(row["weight"]) == float(point[f"mu_{results.objectives[0]}"])
        weighted = sum(float(point[f"mu_{name}"]) * float(point[name]) for name in results.objectives)
        assert float(row["utility"]) == pytest.approx(weighted)
        assert float(row["low"]) <= float(row["utility"]) <= float(row["high"])
    assert {row["method"] for row in rows if row["grid"] == "part"} == {"oracle"}


def test_tables_name_every_method_and_both_references(written):
    report = tables.document(written[0])
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(show.report(json.loads(json.dumps(report))))
    for text in (console.export_text(), markdown(report)):
        for needed in ("SFT", "Rewarded Soup", "Bone Soup", "Oracle (MORLHF)", "HV above −1", "HV above −2"):
            assert needed in text
    assert max(map(len, console.export_text().splitlines() or [""])) <= 100


def test_finding_says_what_the_interval_allows():
    def interval(low, high, vertex=None):
        gap = {"inner_product_interior": {"value": (low + high) / 2, "low": low, "high": high}}
        if vertex:
            gap["inner_product_vertex"] = {"value": sum(vertex) / 2, "low": vertex[0], "high": vertex[1]}
        return {"grids": {"full_grid": {"gold": {"difference_to_rewarded": {"bone": gap}}}}}

    assert "better than Rewarded Soup, by +0.060 [+0.030, +0.090]" in tables.finding(interval(0.03, 0.09))
    assert "worse than Rewarded Soup" in tables.finding(interval(-0.09, -0.03))
    assert "are not distinguishable" in tables.finding(interval(-0.01, 0.09))
    assert "it is worse at the vertices, −0.200" in tables.finding(interval(0.03, 0.09, (-0.3, -0.1)))
    assert "vertices" not in tables.finding(interval(0.03, 0.09, (-0.3, 0.1)))
    whole = interval(0.03, 0.09, (-0.3, -0.1))
    gaps = whole["grids"]["full_grid"]["gold"]["difference_to_rewarded"]["bone"]
    gaps["inner_product"] = {"value": -0.05, "low": -0.08, "high": -0.02}
    assert ", and over the whole grid, −0.050 [−0.080, −0.020]." in tables.finding(whole)
    nothing = {"grids": {"full_grid": {"reward": {"difference_to_rewarded": {}}}}}
    assert "nothing to compare" in tables.finding(nothing)


def test_the_score_of_a_judge_is_a_dashed_line_in_the_colour_of_its_reward(make_training):
    logs = make_training(2)
    for rows in logs.values():
        for row in rows:
            row["judge/helpful"] = row["reward/helpful"] / 2
    lines = {line.get_label(): line for line in plots.training_curves(logs).axes[0].get_lines()}
    assert list(lines) == ["helpful", "helpful, judge", "harmless"]
    assert lines["helpful, judge"].get_color() == lines["helpful"].get_color() != lines["harmless"].get_color()
    assert lines["helpful, judge"].is_dashed()
    first = next(iter(logs.values()))
    np.testing.assert_array_equal(lines["helpful, judge"].get_ydata(), [row["judge/helpful"] for row in first])


def test_every_objective_has_a_curve_however_many_there_are():
    names = "abcdef"
    rows = [{"step": step, "kl": 0.0} | {f"reward/{name}": 0.0 for name in names} for step in (1, 2)]
    lines = plots.training_curves({"specialist-1": rows}).axes[0].get_lines()
    assert [line.get_label() for line in lines] == list(names)


def test_the_bars_have_a_legend_on_a_grid_without_interior_preferences(tmp_path, make_samples):
    paths = make_samples(tmp_path, 3)
    results = evaluate(read_fronts(paths, NAMES[3]), [-1], 0.4, Statistics(20, 0.95, 0))
    legend = [text.get_text() for text in plots.utility(results).legends[0].get_texts()]
    assert legend == ["Bone Soup", "Oracle (MORLHF)"]


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_the_page_draws_every_marker(method):
    """A shape that the script does not know would become a circle, which is Bone Soup's."""
    script = Path(report.__file__).with_name("page").joinpath("report.js").read_text()
    shapes = script[script.index("shapes = {") : script.index("};", script.index("shapes = {"))]
    drawn = re.search(rf'^    "?{re.escape(method.marker)}"?: `', shapes, re.MULTILINE)
    assert bool(drawn) == (method.marker != "o")


def test_report_without_gold_baseline_or_logs(samples, tmp_path):
    """A real run may know no gold score, skip Rewarded Soup and use computed rewards."""
    paths = {method: samples[method] for method in ("sft", "bone")}
    for path in paths.values():
        pd.read_parquet(path).drop(columns=["gold_helpful", "gold_harmless"]).to_parquet(path)
    results = evaluate(read_fronts(paths, NAMES[2]), [-1], 0.2, Statistics(20, 0.9, 0))
    write_report(
        results,
        tables.document(results),
        tmp_path / "report",
        main="bone",
        examples=read_examples(paths, NAMES[2], 1),
        coefficients={},
        normaliser={"correlation": [[1, -0.5], [-0.5, 1]], "gold": None},
        rewards={},
        training={},
        settings="",
        commit="none",
    )
    files = {"index.html", "fronts.png", "front.csv", "utility.csv"}
    assert {path.name for path in (tmp_path / "report").iterdir()} == files
    page = (tmp_path / "report" / "index.html").read_text()
    assert "nothing to compare" in page
    assert "computed, not learned" in page
    assert "ratio_to_rewarded" in tables.document(results)["grids"]["full_grid"]["reward"]


def test_what_was_chosen_and_what_it_cost_is_on_the_page(written):
    page = (written[1] / "index.html").read_text()
    assert "condition number 2.5" in page
    assert "β = 0.8 of 2 after 12 of 60 steps, because its hypervolume is distinguishably larger" in page
    assert "Extrapolation chosen on validation prompts (1 is none): Bone Soup 1.25" in page
    costs = re.search(r'id="costs-title".*?</section>', page, re.S)[0]
    n = len(written[0].objectives)
    assert f"<td>{7680 * n:,}</td>" in costs
    assert "search for β" in costs


def test_unequal_budgets_are_said():
    costs = {"sft": {"updates": 0}, "rewarded": {"updates": 120}, "bone": {"updates": 180}, "oracle": {"updates": 300}}
    assert "Unequal budgets of policy updates: Rewarded Soup 120, Bone Soup 180." in tables.choices({"costs": costs})[0]
    assert tables.choices({"costs": costs | {"bone": {"updates": 120}}}) == []


def test_the_soup_that_is_served_is_named_with_what_chose_it():
    def row(method: str, gain: float) -> dict:
        gap = {"value": gain, "low": gain - 0.02, "high": gain + 0.02}
        return {"method": method, "unit": "gold", "utility": gain, "gain": gap}

    choice = {"method": "curved", "prompts": 256, "candidates": [row("bone", 0.0), row("curved", 0.1)]}
    assert tables.choices({"choice": choice}) == [
        "Registered and served: Curved Soup, ahead of Bone Soup by +0.100 [+0.080, +0.120] in gold (true) score on 256 "
        "validation prompts, over the whole grid."
    ]
    kept = choice | {"method": "bone"}
    assert "Bone Soup; no other soup is distinguishably ahead" in tables.choices({"choice": kept})[0]
    assert tables.choices({"choice": {"method": "bone", "prompts": 0, "candidates": []}}) == []
