"""Turn results into plain JSON, and that JSON into sentences and table rows.

Everything shown is read from the JSON (out/metrics/report.json), so that a run with nothing changed prints
the same table without computing anything.
"""

from bonesoup.evaluation.compare import Block, Results
from bonesoup.evaluation.statistics import Estimate
from bonesoup.evaluation.units import UNITS
from bonesoup.method import methods
from bonesoup.method.methods import BASELINE, MAIN, ORACLE, SFT

# Metrics that are neither better nor worse when larger, or too weak a statistic to colour.
_NEUTRAL = ("kl", "tokens", "cardinality", "sparsity", "spacing")
# Digits after the point; other metrics get three.
_DIGITS = {"cardinality": 0, "correlation": 2, "kl": 2, "moved": 2, "tokens": 1}


def document(results: Results, main: str = MAIN) -> dict:
    """Return results as nested plain data without NaN, which `dvc metrics` and every function below can read.

    Args:
        main: the method in the finding.
    """
    content = {
        "objectives": list(results.objectives),
        "references": list(results.references),
        "interior": results.interior,
        "confidence": results.confidence,
        "bootstrap": results.resamples,
        "prompts": results.prompts,
        "grids": {block.name.replace(" ", "_"): _block(block, results) for block in results.blocks},
    }
    return {"finding": finding(content, main)} | content


def _block(block: Block, results: Results) -> dict:
    return {"points": len(block.preferences)} | {
        unit: {
            "methods": _nested(block.metrics[unit]),
            f"difference_to_{BASELINE}": _nested(block.differences[unit]),
            f"ratio_to_{BASELINE}": _nested(block.ratios[unit]),
        }
        for unit in results.units
    }


def _nested(metrics: dict[str, dict[str, Estimate]]) -> dict:
    return {method: {key: e.plain() for key, e in values.items()} for method, values in metrics.items()}


def label(metric: str) -> str:
    """Return a metric's heading: 'hypervolume@-1' -> 'HV above −1'."""
    if metric.startswith("hypervolume@"):
        return f"HV above {metric.partition('@')[2]}".replace("-", "−")
    return {
        "inner_product": "Inner product",
        "inner_product_interior": "Interior",
        "inner_product_edge": "Edge",
        "inner_product_vertex": "Vertex",
        "controllability": "Controllability",
        "cardinality": "Points",
        "sparsity": "Sparsity",
        "spacing": "Spacing",
        "kl": "KL",
        "tokens": "Tokens",
    }[metric]


def number(metric: str, value: float, signed: bool = False) -> str:
    """Format a value to the digits its metric deserves, with a real minus sign."""
    text = f"{value:{'+' if signed else ''}.{_DIGITS.get(metric, 3)}f}"
    # A rounded zero has no meaningful sign.
    if not text.strip("+-0."):
        text = text.lstrip("+-")
    return text.replace("-", "−")


def interval(metric: str, estimate: dict, signed: bool = False) -> str:
    return f"[{number(metric, estimate['low'], signed)}, {number(metric, estimate['high'], signed)}]"


def with_interval(metric: str, estimate: dict, signed: bool = False) -> str:
    """Format an estimate as '+0.031 [+0.012, +0.050]'."""
    return f"{number(metric, estimate['value'], signed)} {interval(metric, estimate, signed)}"


def finding(report: dict, main: str = MAIN) -> str:
    """Say in one sentence how the method `main` compares with Rewarded Soup, or that no difference is certain."""
    grid = report["grids"]["full_grid"]
    unit = next(unit for unit in UNITS if unit in grid)
    differences = grid[unit][f"difference_to_{BASELINE}"]
    method = next((m for m in (main, *differences) if m in differences and m != SFT), None)
    if method is None:
        return "There is nothing to compare: the whole grid needs Rewarded Soup and one more method."
    metric = "inner_product_interior" if "inner_product_interior" in differences[method] else "inner_product"
    where = "interior preferences" if metric.endswith("interior") else "the whole grid"
    gap = differences[method][metric]
    size = f"{with_interval(metric, gap, True)} SFT standard deviations of {UNITS[unit]}"
    name, baseline = methods.title(method), methods.title(BASELINE)
    if gap["low"] > 0 or gap["high"] < 0:
        sentence = f"{name} serves {where} {'better' if gap['low'] > 0 else 'worse'} than {baseline}, by {size}"
    else:
        sentence = f"{name} and {baseline} are not distinguishable at {where}: {size}"
    # Add the cases in which the same comparison goes the other way.
    costs = {"inner_product_vertex": "at the vertices", "inner_product": "over the whole grid"}
    worse = [
        f"{text}, {with_interval(key, loss, True)}"
        for key, text in costs.items()
        if key != metric and (loss := differences[method].get(key)) and loss["high"] < 0
    ]
    if worse:
        sentence += "; it is worse " + ", and ".join(worse)
    return sentence + "."


def rows(grid: dict, unit: str) -> list[dict]:
    """Return the rows of a table for one grid and unit: each method, and below it its comparison with Rewarded Soup.

    A row is {"name", "method", "kind": "method" | "difference", "cells": {metric: cell}}; a cell has "text",
    "interval", "half" (of its width), and for comparisons "distinct" (the interval excludes no difference) and
    "sign".
    """
    part = grid[unit]
    table = []
    for method, values in part["methods"].items():
        cells = {key: _cell(key, number(key, e["value"]), e) for key, e in values.items()}
        table.append({"name": methods.title(method), "method": method, "kind": "method", "cells": cells})
        differences = part[f"difference_to_{BASELINE}"].get(method)
        if differences and method != SFT:
            ratios = part[f"ratio_to_{BASELINE}"][method]
            cells = {key: gap_cell(key, e, ratios.get(key)) for key, e in differences.items()}
            against = f"vs {methods.title(BASELINE)}"
            table.append({"name": against, "method": method, "kind": "difference", "cells": cells})
    return table


def _cell(metric: str, text: str, estimate: dict, signed: bool = False) -> dict:
    half = number(metric, (estimate["high"] - estimate["low"]) / 2)
    return {"text": text, "interval": interval(metric, estimate, signed), "half": half, "distinct": False, "sign": 0}


def gap_cell(metric: str, difference: dict, ratio: dict | None = None) -> dict:
    """Return the cell of a comparison: the ratio for a hypervolume (its unit means little), else the difference."""
    shown, none = (ratio, 1) if ratio else (difference, 0)
    value = number(metric, shown["value"], signed=not ratio)
    return _cell(metric, f"×{value}" if ratio else value, shown, signed=not ratio) | {
        "distinct": metric not in _NEUTRAL and (shown["low"] > none or shown["high"] < none),
        "sign": (shown["value"] > none) - (shown["value"] < none),
    }


def metrics_shown(grid: dict, unit: str, main: bool | None = None) -> list[str]:
    """List the metrics of a table in order; `main` selects those a reader needs first (True) or the others (False)."""
    first = ("inner_product", "inner_product_interior", "inner_product_vertex", "controllability", "kl")
    keys = list(next(iter(grid[unit]["methods"].values())))
    return [k for k in keys if main is None or (k.startswith("hypervolume") or k in first) == main]


def title(key: str, grid: dict, unit: str) -> str:
    """Return a heading such as 'Full grid, 11 preferences: gold (true) score'."""
    return f"{key.replace('_', ' ').capitalize()}, {grid['points']} preferences: {UNITS[unit]}"


# Costs of a method: heading, and its meaning.
COSTS = {
    "policies": ("Policies", "trained"),
    "updates": ("Updates", "of policies, each on a batch of rollouts"),
    "scored": ("Scored", "responses that every reward has scored in training"),
    "held": ("Held", "policies in memory to answer any preference"),
    "passes": ("Passes", "of a model of the base's size for one token"),
}


def cost_rows(report: dict) -> list[tuple[str, list[str]]]:
    """Return (method, a cell for each of COSTS), and the search for beta if there was one."""
    rows = [(methods.title(method), costs) for method, costs in report.get("costs", {}).items()]
    if seek := report.get("seek"):
        rows.append(("search for β", seek["cost"]))
    return [(title, [f"{costs[key]:,}" if key in costs else "" for key in COSTS]) for title, costs in rows]


def preference(report: dict, weights: list[float]) -> str:
    """Write a preference as words: 'helpful 0.7, harmless 0.3'."""
    return ", ".join(f"{name} {weight:.2g}" for name, weight in zip(report["objectives"], weights, strict=True))


def choices(report: dict) -> list[str]:
    """Say in sentences what was chosen before the comparison: basis, beta, extrapolation, the soup to serve."""
    sentences = []
    if basis := report.get("basis"):
        sentences.append(
            f"Basis: condition number {basis['condition']:.3g}; the coefficients' L1 norm is {basis['l1']:.3g} at "
            f"worst and {basis['l1_even']:.3g} at the even preference."
        )
    spent = {m: c["updates"] for m, c in report.get("costs", {}).items() if m not in (SFT, ORACLE)}
    if len(set(spent.values())) > 1:
        budgets = ", ".join(f"{methods.title(method)} {updates:,}" for method, updates in spent.items())
        sentences.append(
            f"Unequal budgets of policy updates: {budgets}. What sets these methods apart is not the method alone."
        )
    if seek := report.get("seek"):
        gaps = ", ".join(
            f"{candidate['beta']:g}: {number('', candidate['hypervolume']['value'])} "
            f"({with_interval('', candidate['difference'], True)})"
            for candidate in seek["candidates"]
        )
        sentences.append(
            f"β = {seek['beta']:g} of {len(seek['candidates'])} after {seek['steps']} of {seek['full']} steps, "
            f"because {seek['reason']}. Hypervolume on validation prompts, with the difference to the one kept: {gaps}."
        )
    if scales := {method: scale for method, scale in report.get("scales", {}).items() if scale}:
        chosen = [f"{methods.title(m)} {' '.join(f'{value:g}' for value in scale)}" for m, scale in scales.items()]
        sentences.append(f"Extrapolation chosen on validation prompts (1 is none): {', '.join(chosen)}.")
    sentences += _served(report["choice"]) if "choice" in report else []
    return sentences


def _served(choice: dict) -> list[str]:
    """Say which soup validation prompts chose, if they were asked."""
    if not choice["candidates"]:
        return []
    kept, chosen = methods.title(choice["candidates"][0]["method"]), methods.title(choice["method"])
    where = f"on {choice['prompts']} validation prompts, over the whole grid"
    if chosen == kept:
        return [f"Registered and served: {chosen}; no other soup is distinguishably ahead of it {where}."]
    (row,) = (row for row in choice["candidates"] if row["method"] == choice["method"])
    gain = with_interval("", row["gain"], True)
    return [f"Registered and served: {chosen}, ahead of {kept} by {gain} in {UNITS[row['unit']]} {where}."]


def notes(report: dict) -> str:
    """Return the notes needed to read the tables."""
    references = " and ".join(f"{r:g}".replace("-", "−") for r in report["references"])
    level = f"{report['confidence']:.0%}"
    return (
        f"Scores in SFT standard deviations. {level} intervals from {report['bootstrap']} resamples of "
        f"{report['prompts']} prompts, paired for comparisons. They leave out training seeds, "
        "which vary more. "
        f"Hypervolume (HV) above {references} in every objective: its ratios depend on that choice. "
        f"Interior: no weight below {report['interior']:g}. KL in nats per response."
    )
