"""A diagnosis for a terminal; reads the document alone."""

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from bonesoup.diagnose.findings import interval, number

UNITS = {"gold": "gold", "reward": "learned"}


def terminal(found: dict) -> Group:
    """The verdict, its reasons, and the tables behind them."""
    bullets = [Padding(Text(f"- {one}"), (0, 0, 0, 2)) for one in found["reasons"]]
    tables = [_runs(found), _lines(found), _policies(found), _penalty(found)]
    return Group(Text(found["verdict"], style="bold"), *bullets, *tables, Text(_conflict(found)))


def _table(title: str, *columns: str) -> Table:
    table = Table(title=f"\n{title}", title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    # A narrow table must not break its title.
    table.min_width = len(title)
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if place else "left", no_wrap=True)
    return table


def _units(found: dict) -> list[str]:
    return [unit for unit in UNITS if unit in found["prediction"]]


def _estimate(value: dict) -> str:
    return f"{number(value['value'])} {interval(value)}"


def _half(value: dict) -> str:
    """A size that is never negative, with half the width of its interval."""
    return f"{value['value']:.2f} ± {(value['high'] - value['low']) / 2:.2f}"


def _runs(found: dict) -> Table:
    units = _units(found)
    title = f"Runs of {found['steps']} steps ({found['full_steps']} make a policy), and what they gain"
    table = _table(title, "from", *(UNITS[unit] for unit in units), "KL before", "after")
    for one in found["short_runs"]:
        kl = f"{one['kl_before']:.2f}", f"{one['kl_after']:.2f}"
        table.add_row(one["start"], *(_estimate(one[unit]) for unit in units), *kl)
    return table


def _lines(found: dict) -> Table:
    """Scores along every line."""
    unit = found["unit"]
    places = [f"{place:g}" for place in found["lines"][0]["places"]]
    title = f"Along straight lines, {UNITS[unit]} score. Barrier: deepest fall below the straight line between the ends"
    table = _table(title, "line", "score", *places, "barrier", "turns back")
    for line in found["lines"]:
        name = f"{line['start']} to {line['end']}"
        for score, one in line[unit].items():
            falls = _half(one["fall"]) if one["fall"] else ""
            table.add_row(name, score, *map(number, one["values"]), _half(one["barrier"]), falls)
            name = ""
        table.add_row("", "KL", *(f"{value:.2f}" for value in line["kl"]), "", "", end_section=True)
    return table


def _policies(found: dict) -> Table:
    table = _table("How far the specialists moved, nats per response", "policy", "KL", "verdict")
    for one in found["movement"]:
        table.add_row(one["slot"], f"{one['value']:.2f} [{one['low']:.2f}, {one['high']:.2f}]", one["verdict"])
    return table


def _penalty(found: dict) -> Table:
    table = _table(f"Predicted gain at other KL penalties, {UNITS[found['unit']]} score", "rl.kl", "gain", "of this")
    for one in found["penalty"]:
        table.add_row(f"{one['kl']:g}", number(one["gain"]), f"{one['share']:.0%}")
    return table


def _conflict(found: dict) -> str:
    """How rewards go together on SFT responses."""
    names = found["objectives"]
    parts = []
    for unit, matrix in found["correlation"].items():
        pairs = [f"{names[i]} and {names[j]} {number(matrix[i][j])}" for i in range(len(names)) for j in range(i)]
        parts.append(f"{UNITS[unit]}: " + ", ".join(pairs))
    return "Correlation over SFT responses; " + "; ".join(parts) + ". Below 0 the objectives conflict."
