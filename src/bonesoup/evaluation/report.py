"""Write the report: a self-contained HTML page, the figures as PNG, and the fronts as CSV for `dvc plots`."""

import base64
import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from bonesoup.evaluation import gaming, quality, refusals, tables
from bonesoup.evaluation.compare import Results, regions
from bonesoup.evaluation.plots import write_plots
from bonesoup.evaluation.samples import Example
from bonesoup.evaluation.units import UNITS
from bonesoup.files import appearing
from bonesoup.method.methods import BASELINE, METHODS, ORACLE, SFT, title


def write_report(
    results: Results,
    document: dict,
    out: Path,
    *,
    main: str,
    examples: Sequence[Example],
    coefficients: Mapping[str, dict],
    normaliser: dict,
    rewards: Mapping[str, dict],
    training: Mapping[str, Sequence[dict]],
    settings: str,
    commit: str,
) -> None:
    """Write index.html, fronts.png, utility.png, training.png, front.csv and utility.csv into the folder `out`.

    Args:
        results: from `evaluate`.
        document: report.json: `tables.document` of the results, with basis, seek, scales, costs, quality, gaming and
            refusals if there are any.
        out: folder, made if absent.
        main: the method in the headline.
        examples: from `read_examples`; responses are untrusted text and shown as text.
        coefficients: {method: {"policies": [slot], "preferences": [point, objective], "coefficients":
            [point, slot]}}: out/fronts/<method>/front.json plus the slots of out/soups/<method>.json.
        normaliser: out/normaliser.json; its correlations are shown.
        rewards: {objective: held-out metrics, out/metrics/reward-<objective>.json}.
        training: {slot: rows of steps.jsonl}, from `read_training`.
        settings: the text of params.yaml.
        commit: git commit of the run.
    """
    out.mkdir(parents=True, exist_ok=True)
    images = {path.stem: path for path in write_plots(results, training, out, main)}
    _write_csv(results, out / "front.csv")
    _write_utility(results, out / "utility.csv")
    page = _template().render(
        document=document,
        tables=tables,
        asides=[
            *quality.listed(document),
            (gaming.TITLE, gaming.HEADINGS, gaming.rows(document)),
            (refusals.TITLE, refusals.headings(document), refusals.rows(document)),
        ],
        hints=gaming.hints(document),
        notes=quality.note(document),
        known=METHODS,
        unit_titles=UNITS,
        compared=(SFT, BASELINE),
        headline=_headline(document, main),
        units=results.units,
        objectives=results.objectives,
        methods=results.methods,
        normaliser=normaliser,
        rewards=rewards,
        settings=settings,
        commit=commit,
        images={
            stem: "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
            for stem, path in images.items()
        },
        data=_page_data(results, main, examples, coefficients, training),
    )
    with appearing(out / "index.html") as temporary:
        temporary.write_text(page, encoding="utf-8")


def _template():
    environment = Environment(
        loader=PackageLoader("bonesoup.evaluation", "page"),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # The page needs valid JSON: NaN would stop the script at its first line.
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False}
    return environment.get_template("report.html")


def _headline(document: dict, main: str) -> list[dict]:
    """Return the numbers shown large: the method `main` (or the oracle) against Rewarded Soup on the full grid."""
    grid = document["grids"]["full_grid"]
    unit = next(unit for unit in UNITS if unit in grid)
    row = next(
        (r for r in tables.rows(grid, unit) if r["kind"] == "difference" and r["method"] in (main, ORACLE)),
        None,
    )
    if row is None:
        return []
    labels = {
        "inner_product_interior": "utility, interior preferences",
        "inner_product": "utility, the whole grid",
        "inner_product_vertex": "utility, vertices",
    }
    labels |= {
        key: f"hypervolume above {key.partition('@')[2]}".replace("-", "−")
        for key in row["cells"]
        if key.startswith("hypervolume")
    }
    expected = quality.headline(document, row["method"])
    first = [tables.gap_cell("expected_utility", expected) | {"label": "expected utility"}] if expected else []
    rest = [row["cells"][key] | {"label": text} for key, text in labels.items() if key in row["cells"]]
    return [cell | {"of": title(row["method"])} for cell in [*first, *rest]]


def _page_data(
    results: Results,
    main: str,
    examples: Sequence[Example],
    coefficients: Mapping[str, dict],
    training: Mapping[str, Sequence[dict]],
) -> dict:
    """Return the plain data that the page's script draws, to embed as JSON."""
    grid = results.blocks[0].preferences
    return {
        "objectives": results.objectives,
        "units": [{"key": unit, "name": UNITS[unit]} for unit in results.units],
        "baseline": BASELINE,
        "main": main,
        "confidence": results.confidence,
        "grid": grid.tolist(),
        "interior": regions(grid, results.interior)["interior"].tolist(),
        "methods": [_method_data(results, method, coefficients.get(method)) for method in results.methods],
        "regions": {
            unit: {
                method: {
                    key.removeprefix("inner_product_"): e.plain()
                    for key, e in results.home(method).differences[unit].get(method, {}).items()
                    if key.startswith("inner_product_")
                }
                for method in results.rivals
            }
            for unit in results.units
        },
        "examples": [asdict(example) for example in examples],
        "training": [{"slot": slot, "rows": list(rows)} for slot, rows in training.items() if rows],
    }


def _method_data(results: Results, method: str, coefficients: dict | None) -> dict:
    """Return a method's mean scores at the preferences it answers, and how its weights are merged there."""
    block = results.home(method)
    keys = ("policies", "preferences", "coefficients")
    return {
        "key": method,
        "name": title(method),
        "marker": METHODS[method].marker,
        "constant": method == SFT,
        "partial": len(block.preferences) < len(results.blocks[0].preferences),
        "preferences": block.preferences.tolist(),
        "points": {unit: block.points[unit][method].tolist() for unit in results.units},
        "covariances": {unit: block.covariances[unit][method].tolist() for unit in results.units},
        "gains": {
            unit: {key: getattr(gain, key).tolist() for key in ("value", "low", "high")}
            for unit in results.units
            if (gain := block.gains[unit].get(method)) is not None
        },
        "merge": {key: coefficients[key] for key in keys} if coefficients else None,
    }


def _write_csv(results: Results, path: Path) -> None:
    """Write method, unit, mu_<objective>..., <objective>...: a row per method, unit and preference."""
    names = results.objectives
    with appearing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["method", "unit", *(f"mu_{name}" for name in names), *names])
        for method in results.methods:
            block = results.home(method)
            for unit in results.units:
                points = np.broadcast_to(block.points[unit][method], block.preferences.shape)
                for mu, point in zip(block.preferences, points, strict=True):
                    writer.writerow([method, unit, *mu.tolist(), *point.tolist()])


def _write_utility(results: Results, path: Path) -> None:
    """Write utility per method, unit and preference, under columns that do not depend on the objectives (`dvc plots`).

    `weight` is the first weight of the preference; `grid` is full, or part for a method that answers only part of it.
    """
    with appearing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["method", "unit", "preference", "weight", "utility", "low", "high", "grid"])
        for method in results.methods:
            block = results.home(method)
            grid = "full" if block is results.blocks[0] else "part"
            for unit in results.units:
                estimate = block.utility[unit][method]
                rows = zip(block.preferences.tolist(), estimate.value, estimate.low, estimate.high, strict=True)
                for mu, *values in rows:
                    preference = " ".join(f"{weight:g}" for weight in mu)
                    writer.writerow([method, unit, preference, mu[0], *map(float, values), grid])
