"""Turn results into plain JSON, and that JSON into a sentence, table rows and Markdown.

Everything shown is read from the JSON (out/metrics/report.json), so that a run with nothing changed prints
the same table without computing anything.
"""

from bonesoup.evaluation.compare import Block, Results
from bonesoup.evaluation.samples import UNITS
from bonesoup.evaluation.statistics import Estimate
from bonesoup.method import methods
from bonesoup.method.methods import BASELINE, MAIN, ORACLE, SFT

# Where more is neither better nor worse, or too weak a statistic to colour.
_NEUTRAL = ("kl", "tokens", "cardinality", "sparsity", "spacing")
# Digits after the point; the rest get three.
_DIGITS = {"cardinality": 0, "kl": 2, "tokens": 1}


def document(results: Results, main: str = MAIN) -> dict:
    """Results as nested plain data without NaN, which `dvc metrics` and every function below can read.

    Args:
        main: the method that the finding is about.
    """
    found = {
        "objectives": list(results.objectives),
        "references": list(results.references),
        "interior": results.interior,
        "confidence": results.confidence,
        "bootstrap": results.resamples,
        "prompts": results.prompts,
        "grids": {block.name.replace(" ", "_"): _block(block, results) for block in results.blocks},
    }
    return {"finding": finding(found, main)} | found


def _block(block: Block, results: Results) -> dict:
    plain = {unit: {} for unit in results.units}
    for unit in results.units:
        plain[unit] = {
            "methods": _nested(block.metrics[unit]),
            f"difference_to_{BASELINE}": _nested(block.differences[unit]),
            f"ratio_to_{BASELINE}": _nested(block.ratios[unit]),
        }
    return {"points": len(block.preferences)} | plain


def _nested(metrics: dict[str, dict[str, Estimate]]) -> dict:
    return {method: {key: e.plain() for key, e in values.items()} for method, values in metrics.items()}


def label(metric: str) -> str:
    """A metric's heading: 'hypervolume@-1' -> 'HV above −1'."""
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
    """A value to the digits its metric deserves, with a real minus sign."""
    text = f"{value:{'+' if signed else ''}.{_DIGITS.get(metric, 3)}f}"
    # A rounded zero has no sign worth showing.
    if not text.strip("+-0."):
        text = text.lstrip("+-")
    return text.replace("-", "−")


def interval(metric: str, found: dict, signed: bool = False) -> str:
    return f"[{number(metric, found['low'], signed)}, {number(metric, found['high'], signed)}]"


def finding(found: dict, main: str = MAIN) -> str:
    """Say in one sentence how the method `main` compares with Rewarded Soup, or that no difference is certain."""
    grid = found["grids"]["full_grid"]
    unit = "gold" if "gold" in grid else "reward"
    differences = grid[unit][f"difference_to_{BASELINE}"]
    method = next((m for m in (main, *differences) if m in differences and m != SFT), None)
    if method is None:
        return "There is nothing to compare: the whole grid needs Rewarded Soup and one more method."
    metric = "inner_product_interior" if "inner_product_interior" in differences[method] else "inner_product"
    where = "interior preferences" if metric.endswith("interior") else "the whole grid"
    gap = differences[method][metric]
    size = (
        f"{number(metric, gap['value'], True)} {interval(metric, gap, True)} SFT standard deviations of {UNITS[unit]}"
    )
    pair = f"{methods.title(method)} and {methods.title(BASELINE)}"
    if gap["low"] > 0:
        said = f"{methods.title(method)} serves {where} better than {methods.title(BASELINE)}, by {size}"
    elif gap["high"] < 0:
        said = f"{methods.title(method)} serves {where} worse than {methods.title(BASELINE)}, by {size}"
    else:
        said = f"{pair} are not distinguishable at {where}: {size}"
    # What the headline leaves out must not be lost: where the same comparison goes the other way.
    costs = {"inner_product_vertex": "at the vertices", "inner_product": "over the whole grid"}
    worse = [
        f"{text}, {number(key, loss['value'], True)} {interval(key, loss, True)}"
        for key, text in costs.items()
        if key != metric and (loss := differences[method].get(key)) and loss["high"] < 0
    ]
    if worse:
        said += "; it is worse " + ", and ".join(worse)
    return said + "."


def rows(grid: dict, unit: str) -> list[dict]:
    """Table rows of one grid and unit: each method, and below it how it compares with Rewarded Soup.

    A row is {"name", "method", "kind": "method" | "difference", "cells": {metric: cell}}; a cell has "text",
    "interval", "half" (of its width), and for comparisons "distinct" (no difference is outside the interval) and
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
            cells = {key: _gap(key, e, ratios.get(key)) for key, e in differences.items()}
            against = f"vs {methods.title(BASELINE)}"
            table.append({"name": against, "method": method, "kind": "difference", "cells": cells})
    return table


def _cell(metric: str, text: str, found: dict, signed: bool = False) -> dict:
    half = number(metric, (found["high"] - found["low"]) / 2)
    return {
        "text": text,
        "interval": interval(metric, found, signed),
        "half": half,
        "distinct": False,
        "sign": 0,
    }


def _gap(metric: str, difference: dict, ratio: dict | None) -> dict:
    """A cell of a comparison: the ratio for a hypervolume (its unit means little), else the difference."""
    shown, none = (ratio, 1) if ratio else (difference, 0)
    value = number(metric, shown["value"], signed=not ratio)
    return _cell(metric, f"×{value}" if ratio else value, shown, signed=not ratio) | {
        "distinct": metric not in _NEUTRAL and (shown["low"] > none or shown["high"] < none),
        "sign": (shown["value"] > none) - (shown["value"] < none),
    }


def metrics_shown(grid: dict, unit: str, main: bool | None = None) -> list[str]:
    """Metrics of a table in their order; `main` keeps what a reader needs first (True) or the others (False)."""
    first = ("inner_product", "inner_product_interior", "inner_product_vertex", "controllability", "kl")
    keys = list(next(iter(grid[unit]["methods"].values())))
    return [k for k in keys if main is None or (k.startswith("hypervolume") or k in first) == main]


def title(key: str, grid: dict, unit: str) -> str:
    """For example 'Full grid, 11 preferences: gold (true) score'."""
    return f"{key.replace('_', ' ').capitalize()}, {grid['points']} preferences: {UNITS[unit]}"


# What a method costs: heading, and what the heading means.
COSTS = {
    "policies": ("Policies", "trained"),
    "updates": ("Updates", "of policies, each on a batch of rollouts"),
    "scored": ("Scored", "responses that every reward has scored in training"),
    "held": ("Held", "policies in memory to answer any preference"),
    "passes": ("Passes", "of a model of the base's size for one token"),
}


def cost_rows(found: dict) -> list[tuple[str, list[str]]]:
    """(method, a cell for each of COSTS), and the search for beta where there was one."""
    rows = [(methods.title(method), costs) for method, costs in found.get("costs", {}).items()]
    if seek := found.get("seek"):
        rows.append(("search for β", seek["cost"]))
    return [(title, [f"{costs[key]:,}" if key in costs else "" for key in COSTS]) for title, costs in rows]


def choices(found: dict) -> list[str]:
    """Sentences on what was chosen before the comparison: basis, beta, extrapolation."""
    said = []
    if basis := found.get("basis"):
        said.append(
            f"Basis: condition number {basis['condition']:.3g}; the coefficients' L1 norm is {basis['l1']:.3g} at "
            f"worst and {basis['l1_even']:.3g} at the even preference."
        )
    spent = {m: c["updates"] for m, c in found.get("costs", {}).items() if m not in (SFT, ORACLE)}
    if len(set(spent.values())) > 1:
        told = ", ".join(f"{methods.title(method)} {updates:,}" for method, updates in spent.items())
        said.append(
            f"Unequal budgets of policy updates: {told}. What sets these methods apart is not the method alone."
        )
    if seek := found.get("seek"):
        gaps = ", ".join(
            f"{one['beta']:g}: {number('', one['hypervolume']['value'])} "
            f"({number('', one['difference']['value'], True)} {interval('', one['difference'], True)})"
            for one in seek["candidates"]
        )
        said.append(
            f"β = {seek['beta']:g} of {len(seek['candidates'])} after {seek['steps']} of {seek['full']} steps, "
            f"because {seek['reason']}. Hypervolume on validation prompts, with the difference to the one kept: {gaps}."
        )
    if scales := {method: scale for method, scale in found.get("scales", {}).items() if scale}:
        chosen = [f"{methods.title(m)} {' '.join(f'{value:g}' for value in scale)}" for m, scale in scales.items()]
        said.append(f"Extrapolation chosen on validation prompts (1 is none): {', '.join(chosen)}.")
    return said


def notes(found: dict) -> str:
    """What a reader needs to read the tables right."""
    references = " and ".join(f"{r:g}".replace("-", "−") for r in found["references"])
    level = f"{found['confidence']:.0%}"
    return (
        f"Scores in SFT standard deviations. {level} intervals from {found['bootstrap']} resamples of "
        f"{found['prompts']} prompts, paired for comparisons. They leave out training seeds, "
        "which vary more. "
        f"Hypervolume (HV) above {references} in every objective: its ratios depend on that choice. "
        f"Interior: no weight below {found['interior']:g}. KL in nats per response."
    )


def markdown(found: dict) -> str:
    """The tables in Markdown, for documents."""
    parts = []
    for key, grid in found["grids"].items():
        for unit in (unit for unit in UNITS if unit in grid):
            keys = metrics_shown(grid, unit)
            lines = [
                f"**{title(key, grid, unit)}**\n",
                "| method | " + " | ".join(label(metric) for metric in keys) + " |",
                "|---" + "|---:" * len(keys) + "|",
            ]
            for row in rows(grid, unit):
                cells = [row["cells"].get(metric) for metric in keys]
                texts = [f"{cell['text']} {cell['interval']}" if cell else "" for cell in cells]
                first = "↳ " * (row["kind"] == "difference") + row["name"]
                lines.append(f"| {first} | " + " | ".join(texts) + " |")
            parts.append("\n".join(lines))
    if costs := cost_rows(found):
        headings = [heading for heading, _ in COSTS.values()]
        lines = ["**Costs**\n", "| | " + " | ".join(headings) + " |", "|---" + "|---:" * len(headings) + "|"]
        parts.append("\n".join([*lines, *(f"| {title_} | " + " | ".join(cells) + " |" for title_, cells in costs)]))
    return "\n\n".join([*parts, *choices(found), notes(found), found["finding"]]) + "\n"
