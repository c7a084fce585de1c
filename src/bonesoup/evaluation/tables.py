"""Results as plain JSON, and that JSON as a sentence, a terminal table and Markdown.

Everything shown is read from the JSON (out/metrics/report.json), so that a run with nothing changed prints the
same table without computing anything.
"""

from rich.console import Group
from rich.table import Table
from rich.text import Text

from bonesoup.evaluation.compare import BASELINE, Block, Results
from bonesoup.evaluation.statistics import Estimate

NAMES = {"sft": "SFT", "rewarded": "Rewarded Soup", "bone": "Bone Soup", "oracle": "Oracle (MORLHF)"}
UNITS = {"gold": "gold (true) score", "reward": "learned reward"}
# Digits after the point; the rest get three.
_DIGITS = {"cardinality": 0, "kl": 2, "tokens": 1}


def document(results: Results) -> dict:
    """Results as nested plain data: floats, strings and short lists, no NaN; metrics `dvc metrics` can read."""
    found = {
        "objectives": list(results.objectives),
        "references": list(results.references),
        "interior": results.interior,
        "confidence": results.confidence,
        "bootstrap": results.resamples,
        "prompts": results.prompts,
        "grids": {block.name.replace(" ", "_"): _block(block, results) for block in results.blocks},
    }
    return {"finding": finding(found)} | found


def _block(block: Block, results: Results) -> dict:
    plain = {unit: {} for unit in results.units}
    for unit in results.units:
        plain[unit] = {
            "methods": _nested(block.metrics[unit]),
            f"difference_to_{BASELINE}": _nested(block.differences[unit]),
            f"ratio_to_{BASELINE}": _nested(block.ratios[unit]),
        }
    return {"points": len(block.preferences)} | plain


def _nested(methods: dict[str, dict[str, Estimate]]) -> dict:
    return {
        method: {key: {"value": e.value, "low": e.low, "high": e.high} for key, e in values.items()}
        for method, values in methods.items()
    }


def name(method: str) -> str:
    """The name a reader sees."""
    return NAMES.get(method, method)


def label(metric: str) -> str:
    """A metric's heading: 'hypervolume@-1' -> 'HV (ref -1)'."""
    if metric.startswith("hypervolume@"):
        return f"Hypervolume (ref {metric.partition('@')[2]})"
    return {
        "inner_product": "Inner product",
        "inner_product_interior": "Interior",
        "inner_product_edge": "Edge",
        "inner_product_vertex": "Vertex",
        "controllability": "Control",
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
    return f"{number(metric, found['low'], signed)} to {number(metric, found['high'], signed)}"


def finding(found: dict) -> str:
    """What the numbers say about Bone Soup, in one sentence; says so where they do not tell methods apart."""
    grid = found["grids"]["full_grid"]
    unit = "gold" if "gold" in grid else "reward"
    differences = grid[unit][f"difference_to_{BASELINE}"]
    method = next((m for m in ("bone", *differences) if m in differences and m != "sft"), None)
    if method is None:
        return "There is nothing to compare: the whole grid needs Rewarded Soup and one more method."
    metric = "inner_product_interior" if "inner_product_interior" in differences[method] else "inner_product"
    where = "at interior preferences" if metric.endswith("interior") else "over the grid"
    gap = differences[method][metric]
    size = (
        f"{number(metric, gap['value'], True)} SFT standard deviations of {UNITS[unit]} "
        f"({found['confidence']:.0%} interval {interval(metric, gap, True)})"
    )
    if gap["low"] > 0:
        return f"{name(method)} serves people better than {name(BASELINE)} {where}, by {size}."
    if gap["high"] < 0:
        return f"{name(method)} serves people worse than {name(BASELINE)} {where}, by {size}."
    return f"{name(method)} and {name(BASELINE)} are not distinguishable {where}: {size}."


def rows(grid: dict, unit: str) -> list[dict]:
    """Table rows of one grid and unit: a row a method, then a row a comparison with Rewarded Soup.

    A row is {"name", "method", "kind": "method"|"difference", "cells": {metric: {"text", "interval", "ratio",
    "clear": whether the interval leaves out no difference, "sign"}}}.
    """
    part = grid[unit]
    table = []
    for method, values in part["methods"].items():
        cells = {
            key: {"text": number(key, e["value"]), "interval": interval(key, e)} for key, e in values.items()
        }
        table.append({"name": name(method), "method": method, "kind": "method", "cells": cells})
    for method, values in part[f"difference_to_{BASELINE}"].items():
        if method == "sft":
            continue
        ratios = part[f"ratio_to_{BASELINE}"].get(method, {})
        cells = {key: _gap(key, e, ratios.get(key)) for key, e in values.items()}
        table.append(
            {
                "name": f"{name(method)} vs {name(BASELINE)}",
                "method": method,
                "kind": "difference",
                "cells": cells,
            }
        )
    return table


def _gap(metric: str, difference: dict, ratio: dict | None) -> dict:
    """A cell of a comparison: the ratio for a hypervolume (its unit means little), else the difference."""
    shown = ratio or difference
    none = 1 if ratio else 0
    text = f"×{number(metric, ratio['value'])}" if ratio else number(metric, difference["value"], True)
    return {
        "text": text,
        "interval": interval(metric, shown, signed=not ratio),
        "clear": shown["low"] > none or shown["high"] < none,
        "sign": (shown["value"] > none) - (shown["value"] < none),
    }


def metrics_shown(grid: dict, unit: str, short: bool = False) -> list[str]:
    """Metrics of a table in their order; `short` keeps what fits a terminal."""
    keys = list(next(iter(grid[unit]["methods"].values())))
    if not short:
        return keys
    wanted = ("inner_product", "inner_product_interior", "controllability", "kl", "tokens")
    return [key for key in keys if key.startswith("hypervolume") or key in wanted]


def title(key: str, grid: dict, unit: str) -> str:
    """'Full grid, 11 preferences: gold (true) score'."""
    return f"{key.replace('_', ' ').capitalize()}, {grid['points']} preferences: {UNITS[unit]}"


def notes(found: dict) -> str:
    """What a reader needs to read the tables right."""
    references = " and ".join(f"{r:g}" for r in found["references"])
    return (
        f"Scores in SFT standard deviations. {found['confidence']:.0%} intervals from {found['bootstrap']} "
        f"resamples of {found['prompts']} prompts, paired for comparisons; they do not cover training seeds, "
        f"which vary more. Hypervolume above {references} in every objective; its ratios depend on that choice. "
        f"Interior: no weight below {found['interior']:g}. KL in nats per response."
    )


def terminal(found: dict) -> Group:
    """The tables for a terminal, from `document` or report.json: `Console().print(terminal(read_json(path)))`."""
    parts: list[Table | Text] = []
    for key, grid in found["grids"].items():
        for unit in (unit for unit in UNITS if unit in grid):
            keys = metrics_shown(grid, unit, short=True)
            table = Table(
                title=title(key, grid, unit), title_justify="left", title_style="bold", show_lines=False
            )
            table.add_column("", no_wrap=True)
            for metric in keys:
                table.add_column(label(metric), justify="right")
            kinds = rows(grid, unit)
            for i, row in enumerate(kinds):
                last = i + 1 < len(kinds) and kinds[i + 1]["kind"] != row["kind"]
                table.add_row(
                    row["name"], *(_cell(row["cells"].get(metric)) for metric in keys), end_section=last
                )
            parts.append(table)
    return Group(*parts, Text(notes(found), style="dim"), Text(found["finding"], style="bold"))


def _cell(cell: dict | None) -> Text:
    if cell is None:
        return Text("")
    colour = {1: "green", -1: "red"}[cell["sign"]] if cell.get("clear") else ""
    return Text.assemble((cell["text"], colour), "\n", (cell["interval"], "dim"))


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
                texts = [f"{cell['text']} ({cell['interval']})" if cell else "" for cell in cells]
                lines.append(f"| {row['name']} | " + " | ".join(texts) + " |")
            parts.append("\n".join(lines))
    return "\n\n".join([*parts, notes(found), found["finding"]]) + "\n"
