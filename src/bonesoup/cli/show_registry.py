"""Tables of registered versions, their scores and decisions, for a terminal."""

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from bonesoup.cli.terminal import titled
from bonesoup.evaluation import tables
from bonesoup.evaluation.units import UNITS
from bonesoup.method import methods
from bonesoup.method.preferences import format_weights
from bonesoup.promotion.champion import KEPT
from bonesoup.registry.scores import key_of

LISTED = ("inner_product_interior", "inner_product", "controllability")
EVALUATED = ("inner_product", "inner_product_interior", "controllability")


def models(listing: dict[str, Any]) -> Group:
    """Show the result of `registry.listing`, in 100 columns or more."""
    parts: list[Table | Text] = []
    current = listing["yardstick"]
    for name, entries in listing["models"].items():
        table = titled(name, show_lines=len(entries) > 1)
        table.add_column("", justify="right")
        table.add_column("aliases")
        table.add_column("own evaluation", no_wrap=True)
        table.add_column(f"yardstick {current[:8]}" if current else "yardstick", no_wrap=True)
        table.add_column("last decision", ratio=1)
        table.add_column("made from", no_wrap=True)
        for row in entries:
            scores = row["scores"].get(current, {}).get("metrics", {})
            table.add_row(
                str(row["version"]),
                Text("\n".join(row["aliases"]), style="green"),
                _scores(row["metrics"]),
                "the same" if current == row["yardstick"] else _scores(scores),
                row["decision"] or "",
                _lineage(row),
            )
        parts.append(table)
    if not parts:
        return Group(Text("No versions: `bonesoup register` sends those of the present run."))
    note = "The best score known: gold, else the judge's, else learned reward. * uncommitted code."
    return Group(*parts, Text(note, style="dim"))


def _scores(metrics: dict[str, dict[str, float]]) -> str:
    unit = next((unit for unit in UNITS if any(name.startswith(f"{unit}/") for name in metrics)), None)
    if unit is None:
        return ""
    scores = {name.partition("/")[2]: value for name, value in metrics.items() if name.startswith(f"{unit}/")}
    grid = "controllability" in scores
    names = [name for name in LISTED if name in scores] if grid else [n for n in scores if n != "inner_product"]
    lines = [f"{_heading(name)[:15]:15} {_cell(name, scores[name])}" for name in names]
    if "kl" in metrics:
        lines.append(f"{'KL':15} {_cell('kl', metrics['kl'])}")
    return "\n".join(lines)


def _lineage(row: dict[str, Any]) -> str:
    made = row["lineage"]
    dirty = "*" if made["git_dirty"] == "true" else ""
    return (
        f"{(made['git_commit'] or '?')[:9]}{dirty} seed {made['seed']}\ndata {(made['data_digest'] or '?')[:10]}\n"
        f"{row['created'][:16].replace('T', ' ')}"
    )


def evaluation(result: dict[str, Any]) -> Group:
    """Show the result of `scoring.evaluate`: a table for each unit."""
    parts: list[Table | Text] = []
    grid = [version for version in result["versions"] if version["preference"] is None]
    single = [version for version in result["versions"] if version["preference"] is not None]
    for unit in UNITS:
        if grid and _has(grid[0], unit):
            parts.append(_evaluated(f"{UNITS[unit]}, over the whole grid", grid, unit, EVALUATED))
        for version in single:
            if _has(version, unit):
                title = f"{UNITS[unit]}, at {format_weights(version['preference'])}"
                parts.append(_evaluated(title, [version], unit, tuple(version["preference"])))
    note = f"Yardstick {result['yardstick']}, {result['prompts']} prompts"
    note += f" of {result['file']}" if result["file"] else ""
    note += f". {result['confidence']:.0%} intervals over prompts; they leave out training seeds, which vary more."
    return Group(*parts, Text(note, style="dim"))


def _has(version: dict[str, Any], unit: str) -> bool:
    return any(name.startswith(f"{unit}/") for name in version["methods"][version["method"]])


def _evaluated(title: str, versions: list[dict[str, Any]], unit: str, metrics: tuple[str, ...]) -> Table:
    table = titled(title)
    table.add_column("")
    for metric in (*metrics, "kl"):
        table.add_column(_heading(metric), justify="right")
    for version in versions:
        for method, scores in version["methods"].items():
            name = version["version"] if method == version["method"] else f"  its {methods.title(method)}"
            table.add_row(name, *(_cell(metric, scores.get(key_of(unit, metric))) for metric in (*metrics, "kl")))
    return table


def comparison(result: dict[str, Any]) -> Group:
    """Show the result of `compare`: a table for each unit."""
    where = f"at {format_weights(result['preference'])}" if result["preference"] else "over the whole grid"
    parts: list[Table | Text] = []
    for unit, part in result["units"].items():
        table = titled(f"{UNITS[unit]}, {where}")
        table.add_column("")
        for heading in (result["a"], result["b"], f"{result['b']} minus {result['a']}"):
            table.add_column(heading, justify="right")
        for metric, difference in part["difference"].items():
            clear = difference["low"] > 0 or difference["high"] < 0
            last = Text(_cell(metric, difference, signed=True), style="bold" if clear else "")
            table.add_row(_heading(metric), *(_cell(metric, part[side].get(metric)) for side in ("a", "b")), last)
        parts.append(table)
    note = (
        f"Yardstick {result['yardstick']}, {result['prompts']} prompts. {result['confidence']:.0%} intervals, paired "
        "by prompt; a difference in bold excludes 0. They leave out training seeds, which vary more."
    )
    return Group(*parts, Text(note, style="dim"))


def yardstick(facts: dict[str, Any]) -> Table:
    table = titled(facts["version"], show_header=False)
    table.add_column("", style="dim")
    table.add_column("")
    for key, value in facts.items():
        if isinstance(value, dict):
            value = "\n".join(f"{name}: {inner}" for name, inner in value.items())
        elif isinstance(value, list | tuple):
            value = ", ".join(map(str, value))
        if key != "version":
            table.add_row(key.replace("_", " "), str(value))
    return table


def decision(facts: dict[str, Any]) -> Group:
    """Show a decision with its checks."""
    parts: list[Table | Text] = []
    if facts["checks"]:
        table = Table("check", "value", "demanded", "", box=SIMPLE_HEAD)
        for check in facts["checks"]:
            numbers = [check["value"], check["low"], check["high"]]
            value = "" if None in numbers else "{:+.3f} [{:+.3f}, {:+.3f}]".format(*numbers)
            passed = Text("passed", style="green") if check["passed"] else Text("failed", style="red")
            table.add_row(check["name"], value, check["demand"], passed)
        parts.append(table)
    parts.append(Text(facts["summary"], style="bold"))
    parts += [Text(line) for line in facts["merged"]]
    if not facts["dry_run"] and facts["verdict"] != KEPT:
        where = f"Evidence: decisions/{facts['time']}.json in the run of {facts['version']}."
        measure = f"Yardstick {facts['yardstick']}. " if facts["yardstick"] else ""
        parts.append(Text(measure + where, style="dim"))
    return Group(*parts)


def _heading(metric: str) -> str:
    try:
        return tables.label(metric)
    except KeyError:
        # The score of an objective.
        return metric


def _cell(metric: str, estimate: dict[str, float] | None, signed: bool = False) -> str:
    if estimate is None:
        return ""
    return tables.with_interval(metric, estimate, signed)
