"""Two versions on one yardstick: metrics of both and their paired differences, as plain data and as a table."""

from dataclasses import replace
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from bonesoup.evaluation import point, tables
from bonesoup.evaluation.samples import UNITS, shared_units
from bonesoup.promotion.scoring import Scored, evaluate
from bonesoup.registry.yardstick import Yardstick


def compare(a: Scored, b: Scored, yardstick: Yardstick) -> dict[str, Any]:
    """`b` against `a`; over the whole grid, or at the one preference that either of them answers.

    Returns:
        {"yardstick", "a", "b", "prompts", "confidence", "preference": {objective: weight} or None for the grid,
        "units": {unit: {"a", "b", "difference": {metric: value, low, high}}}}; differences are b minus a.

    Raises:
        ValueError: the two answer different preferences, or one lies off the grid the other was scored on.
    """
    preference = _shared(a, b)
    found = {
        "yardstick": yardstick.digest,
        "a": a.name,
        "b": b.name,
        "prompts": len(yardstick.prompts),
        "confidence": yardstick.confidence,
        "preference": dict(zip(yardstick.objectives, preference, strict=True)) if preference else None,
        "units": {},
    }
    # By the names of the versions: both are of the same method.
    fronts = [replace(a.front, method="a"), replace(b.front, method="b")]
    known = shared_units(fronts)
    if preference is None:
        (block, *_) = evaluate(fronts, yardstick, baseline="a").blocks
        for unit in known:
            parts = block.metrics[unit] | {"difference": block.differences[unit]["b"]}
            found["units"][unit] = {name: _plain(parts[name]) for name in ("a", "b", "difference")}
        return found
    # Merged weights bring no SFT policy to measure their KL to.
    dropped = {"kl"} if "merged" in (a.version.tags["kind"], b.version.tags["kind"]) else set()
    for unit in known:
        parts = {front.method: point.estimates(front, preference, unit, yardstick.statistics) for front in fronts}
        parts["difference"] = point.differences(fronts[1], fronts[0], preference, unit, yardstick.statistics)
        found["units"][unit] = {
            name: _plain({k: v for k, v in part.items() if k not in dropped}) for name, part in parts.items()
        }
    return found


def _shared(a: Scored, b: Scored) -> tuple[float, ...] | None:
    fixed = [scored for scored in (a, b) if scored.preference is not None]
    if not fixed:
        return None
    preference = fixed[0].preference
    for scored in (a, b):
        if not point.on_grid(scored.front, preference):
            raise ValueError(
                f"{fixed[0].name} answers only the preference {_weights(scored, preference)}, and {scored.name} "
                f"{'only ' + _weights(scored, scored.preference) if scored.preference else 'was not scored there'}: "
                "compare versions of one preference, or with a soup on the yardstick's grid"
            )
    return preference


def _weights(scored: Scored, preference: tuple[float, ...]) -> str:
    return ",".join(f"{name}={w:g}" for name, w in zip(scored.front.objectives, preference, strict=True))


def _plain(metrics: dict) -> dict[str, dict[str, float]]:
    return {name: estimate.plain() for name, estimate in metrics.items()}


def terminal(found: dict) -> Group:
    """What `compare` found as tables."""
    where = "over the whole grid"
    if found["preference"]:
        where = "at " + ",".join(f"{name}={weight:g}" for name, weight in found["preference"].items())
    parts: list[Table | Text] = []
    for unit, part in found["units"].items():
        table = Table(title=f"{UNITS[unit]}, {where}", title_justify="left", title_style="bold", box=SIMPLE_HEAD)
        table.add_column("")
        for heading in (found["a"], found["b"], f"{found['b']} minus {found['a']}"):
            table.add_column(heading, justify="right")
        for metric, difference in part["difference"].items():
            clear = difference["low"] > 0 or difference["high"] < 0
            cells = [cell(metric, part[side].get(metric)) for side in ("a", "b")]
            last = Text(cell(metric, difference, signed=True), style="bold" if clear else "")
            table.add_row(heading_of(metric), *cells, last)
        parts.append(table)
    note = (
        f"Yardstick {found['yardstick']}, {found['prompts']} prompts. {found['confidence']:.0%} intervals, paired by "
        "prompt; a difference in bold excludes 0. They leave out training seeds, which vary more."
    )
    return Group(*parts, Text(note, style="dim"))


def heading_of(metric: str) -> str:
    try:
        return tables.label(metric)
    except KeyError:
        # An objective's own score.
        return metric


def cell(metric: str, found: dict[str, float] | None, signed: bool = False) -> str:
    if found is None:
        return ""
    return f"{tables.number(metric, found['value'], signed)} {tables.interval(metric, found, signed)}"
