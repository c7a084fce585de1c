"""The report and a diagnosis as tables for a terminal."""

from collections import Counter
from collections.abc import Sequence

from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from bonesoup.cli.terminal import titled
from bonesoup.diagnose.words import interval, number
from bonesoup.evaluation import gaming, quality, refusals, tables
from bonesoup.evaluation.units import UNITS
from bonesoup.method.methods import title


def report(document: dict) -> Group:
    """Lay out report.json: a table for each grid and unit, costs, choices, notes and the finding."""
    parts: list[Table | Text] = []
    for key, grid in document["grids"].items():
        for unit in (unit for unit in UNITS if unit in grid):
            keys = [key for key in tables.metrics_shown(grid, unit, main=True) if key != "inner_product_vertex"]
            table = _plain_table(tables.title(key, grid, unit))
            for metric in keys:
                table.add_column(tables.label(metric).replace("Controllability", "Control"), justify="right")
            for row in tables.rows(grid, unit):
                indent = "  " * (row["kind"] == "difference")
                table.add_row(indent + row["name"], *(_cell(metric, row["cells"].get(metric)) for metric in keys))
            parts.append(table)
    if compared := gaming.rows(document):
        parts.append(_listed(gaming.TITLE, gaming.HEADINGS[1:], compared))
    if refused := refusals.rows(document):
        parts.append(_listed(refusals.TITLE, refusals.headings(document)[1:], refused))
    if costs := tables.cost_rows(document):
        headings = [heading for heading, _ in tables.COSTS.values()]
        parts.append(_listed("Costs", headings, [[name, *cells] for name, cells in costs]))
    return Group(
        *parts,
        *(Text(sentence, style="bold") for sentence in gaming.hints(document)),
        *(Text(sentence) for sentence in quality.headlines(document)),
        *(Text(sentence, style="dim") for sentence in tables.choices(document)),
        Text("± is half the interval. " + tables.notes(document), style="dim"),
        Text("\n" + document["finding"], style="bold"),
    )


def _listed(title: str, headings: Sequence[str], rows: list[list[str]]) -> Table:
    table = _plain_table(title)
    for heading in headings:
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(*row)
    return table


def _plain_table(title: str) -> Table:
    table = titled(title)
    table.add_column("", no_wrap=True)
    return table


def _cell(metric: str, cell: dict | None) -> Text:
    """Show a value and half its interval: the bounds themselves do not fit a terminal."""
    if cell is None:
        return Text("")
    colour = {1: "green", -1: "red", 0: ""}[cell["sign"]] if cell["distinct"] else ""
    half = "" if metric == "kl" else f"\n±{cell['half']}"
    return Text.assemble((cell["text"], colour), (half, "dim"))


def diagnosis(findings: dict) -> Group:
    """Lay out a diagnosis: the verdict, its reasons, and the tables behind them."""
    bullets = [Padding(Text(f"- {reason}"), (0, 0, 0, 2)) for reason in findings["reasons"]]
    parts = [_soups(findings), _runs(findings), _lines(findings), _policies(findings), _penalty(findings)]
    return Group(Text(findings["verdict"], style="bold"), *bullets, *parts, Text(_conflict(findings)))


def _table(title: str, *columns: str) -> Table:
    # A narrow table must not break its title.
    table = titled(f"\n{title}", pad_edge=False, min_width=len(title))
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if place else "left", no_wrap=True)
    return table


def _short(unit: str) -> str:
    """Return the first word of a unit's title: gold, judge, learned."""
    return UNITS[unit].partition(" ")[0]


def _units(findings: dict) -> list[str]:
    return [unit for unit in UNITS if unit in findings["prediction"]]


def _estimate(value: dict) -> str:
    return f"{number(value['value'])} {interval(value)}"


def _half(value: dict) -> str:
    """Show a size that is never negative, with half the width of its interval."""
    return f"{value['value']:.2f} ± {(value['high'] - value['low']) / 2:.2f}"


def _soups(findings: dict) -> Table:
    """Tabulate what every kind of soup is predicted to gain."""
    unit = findings["unit"]
    heading = f"Predicted gain over Rewarded Soup by policies of {findings['full_steps']} steps, {UNITS[unit]}"
    table = _table(heading, "soup", "policies", "steps at its total", "interior", "whole grid", "vertices")
    for forecast in findings["soups"]:
        steps = (
            ", ".join(f"{count} x {of}" for of, count in Counter(forecast["steps"] or []).items()) or "do not divide"
        )
        gain, others = forecast[unit], (forecast[unit][part]["value"] for part in ("grid", "vertices"))
        inside = f"{number(gain['gain'])} {interval(gain)}"
        table.add_row(title(forecast["method"]), str(forecast["policies"]), steps, inside, *map(number, others))
    return table


def _runs(findings: dict) -> Table:
    units = _units(findings)
    title = f"Runs of {findings['steps']} steps ({findings['full_steps']} make a policy), and what they gain"
    table = _table(title, "from", *(_short(unit) for unit in units), "KL before", "after")
    for run in findings["short_runs"]:
        kl = f"{run['kl_before']:.2f}", f"{run['kl_after']:.2f}"
        table.add_row(run["start"], *(_estimate(run[unit]) for unit in units), *kl)
    return table


def _lines(findings: dict) -> Table:
    """Tabulate the scores along every line."""
    unit = findings["unit"]
    places = [f"{place:g}" for place in findings["lines"][0]["places"]]
    title = f"Along straight lines, {_short(unit)} score. Barrier: deepest fall below the line between the ends"
    table = _table(title, "line", "score", *places, "barrier", "turns back")
    for line in findings["lines"]:
        name = f"{line['start']} to {line['end']}"
        for score, measured in line[unit].items():
            falls = _half(measured["fall"]) if measured["fall"] else ""
            table.add_row(name, score, *map(number, measured["values"]), _half(measured["barrier"]), falls)
            name = ""
        table.add_row("", "KL", *(f"{value:.2f}" for value in line["kl"]), "", "", end_section=True)
    return table


def _policies(findings: dict) -> Table:
    table = _table("How far the specialists moved, nats per response", "policy", "KL", "verdict")
    for row in findings["movement"]:
        table.add_row(row["slot"], f"{row['value']:.2f} [{row['low']:.2f}, {row['high']:.2f}]", row["verdict"])
    return table


def _penalty(findings: dict) -> Table:
    table = _table(f"Predicted gain at other KL penalties, {UNITS[findings['unit']]} score", "rl.kl", "gain", "of this")
    for predicted in findings["penalty"]:
        table.add_row(f"{predicted['kl']:g}", number(predicted["gain"]), f"{predicted['share']:.0%}")
    return table


def _conflict(findings: dict) -> str:
    """Say how the rewards correlate on SFT responses."""
    names = findings["objectives"]
    parts = []
    for unit, matrix in findings["correlation"].items():
        pairs = [f"{names[i]} and {names[j]} {number(matrix[i][j])}" for i in range(len(names)) for j in range(i)]
        parts.append(f"{_short(unit)}: " + ", ".join(pairs))
    return "Correlation over SFT responses; " + "; ".join(parts) + ". Below 0 the objectives conflict."
