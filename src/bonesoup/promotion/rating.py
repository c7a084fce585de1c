"""What `bonesoup evaluate`, `compare` and `yardstick` do, as plain data and as tables."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlflow.entities.model_registry import ModelVersion
from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text
from ruamel.yaml import YAML

from bonesoup.data.new_prompts import outside_the_task, read_prompts
from bonesoup.evaluation.samples import UNITS
from bonesoup.method import methods
from bonesoup.promotion import champion
from bonesoup.promotion import compare as comparison
from bonesoup.promotion.compare import cell, heading_of
from bonesoup.promotion.scoring import Machine, Scored, score
from bonesoup.registry import adoption, lineage
from bonesoup.registry import yardstick as yardsticks
from bonesoup.registry.names import find, reference, soup_name, versions
from bonesoup.registry.store import Store
from bonesoup.registry.yardstick import Yardstick

SHOWN = ("inner_product", "inner_product_interior", "controllability")


def evaluate(
    store: Store,
    prefix: str,
    texts: list[str],
    prompts: Path | None,
    machine: Machine,
    echo: Callable[[str], None],
) -> dict[str, Any]:
    """Score versions (by default the champion and the newest soup) on the current yardstick or on new prompts.

    Raises:
        ValueError: no such version or yardstick, bad lines in the file, or other objectives.
    """
    chosen = [find(store.client, text, soup_name(prefix)) for text in texts] or _default(store, prefix)
    yardstick = current(store, prefix, machine.work)
    missing = None
    if prompts:
        rows = read_prompts(prompts)
        missing = outside_the_task(rows, yardstick.tables) if yardstick.tables else None
        if missing:
            echo(f"the true score is left out, as it is not known for every prompt: {missing}")
        yardstick = yardstick.on(rows, gold=missing is None)
    found = score(store, chosen, yardstick, machine, echo, source=prompts.name if prompts else None)
    return {
        "yardstick": yardstick.digest,
        "prompts": len(yardstick.prompts),
        "file": prompts.name if prompts else None,
        "gold_left_out": missing,
        "confidence": yardstick.confidence,
        "versions": [_plain(scored) for scored in found],
    }


def _default(store: Store, prefix: str) -> list[ModelVersion]:
    """Champion and newest soup."""
    have = versions(store.client, soup_name(prefix))
    if not have:
        raise ValueError(f"the registry has no version of {soup_name(prefix)}; `bonesoup register` sends this run's")
    holder = champion.current(store, prefix)
    older = [holder] if holder and reference(holder) != reference(have[-1]) else []
    return [*older, have[-1]]


def _plain(scored: Scored) -> dict[str, Any]:
    names = scored.front.objectives
    return {
        "version": scored.name,
        "kind": scored.version.tags["kind"],
        "method": scored.method,
        "preference": dict(zip(names, scored.preference, strict=True)) if scored.preference else None,
        "new": list(scored.new),
        "methods": scored.evidence,
    }


def current(store: Store, prefix: str, work: Path) -> Yardstick:
    """The adopted yardstick.

    Raises:
        ValueError: there is none yet.
    """
    held = adoption.current(store, prefix)
    if held is None:
        raise ValueError(
            f"{prefix} has no yardstick to measure by: `bonesoup register` adopts the first, and `bonesoup yardstick "
            "--adopt` another"
        )
    return adoption.load(held, work / "yardstick")


def compare(store: Store, prefix: str, a: str, b: str, machine: Machine, echo: Callable[[str], None]) -> dict[str, Any]:
    """`comparison.compare` of two references, scored where they are not yet.

    Raises:
        ValueError: no such version, the same one twice, or two that nothing compares.
    """
    pair = [find(store.client, text, soup_name(prefix)) for text in (a, b)]
    if reference(pair[0]) == reference(pair[1]):
        raise ValueError(f"{a} and {b} are both {reference(pair[0])}: name two versions")
    if pair[0].tags.get("objectives") != pair[1].tags.get("objectives"):
        about = " and ".join(f"{reference(v)} is about {v.tags.get('objectives', 'nothing known')}" for v in pair)
        raise ValueError(f"{about}: nothing compares them")
    yardstick = current(store, prefix, machine.work)
    first, second = score(store, pair, yardstick, machine, echo)
    return comparison.compare(first, second, yardstick)


def adopt(store: Store, prefix: str, root: Path, settings_text: str, reason: str) -> str:
    """Make the yardstick of the pipeline in `root` the current one; what happened.

    Raises:
        ValueError: the pipeline has none yet.
    """
    own = yardsticks.of_pipeline(root, YAML(typ="safe").load(settings_text))
    if own is None:
        raise ValueError(
            "out/ holds no yardstick: prompts, rewards and normaliser are needed; `bonesoup run` makes them"
        )
    version, changed = adoption.adopt(store, prefix, root, own, reason, lineage.code(root))
    name = reference(version)
    return f"{name} is current now ({own.digest})" if changed else f"{name} is current already ({own.digest})"


def yardstick(store: Store, prefix: str, work: Path) -> dict[str, Any]:
    """The current yardstick, when and why it was adopted."""
    held = adoption.current(store, prefix)
    found = yardsticks.shown(current(store, prefix, work))
    about = {key: held.tags.get(key) for key in (adoption.ADOPTED, adoption.REASON, adoption.COMMIT)}
    return {"version": reference(held)} | about | found


def yardstick_terminal(found: dict[str, Any]) -> Table:
    table = Table(title=found["version"], title_justify="left", title_style="bold", box=SIMPLE_HEAD, show_header=False)
    table.add_column("", style="dim")
    table.add_column("")
    for key, value in found.items():
        if key == "version":
            continue
        if isinstance(value, dict):
            value = "\n".join(f"{name}: {inner}" for name, inner in value.items())
        elif isinstance(value, list | tuple):
            value = ", ".join(map(str, value))
        table.add_row(key.replace("_", " "), str(value))
    return table


def terminal(found: dict[str, Any]) -> Group:
    """What `evaluate` found as a table for each unit."""
    parts: list[Table | Text] = []
    for unit in UNITS:
        grid = [v for v in found["versions"] if v["preference"] is None]
        if grid and any(name.startswith(f"{unit}/") for name in grid[0]["methods"][grid[0]["method"]]):
            parts.append(_table(f"{UNITS[unit]}, over the whole grid", grid, unit, SHOWN))
        for row in (v for v in found["versions"] if v["preference"] is not None):
            where = ",".join(f"{name}={weight:g}" for name, weight in row["preference"].items())
            if any(name.startswith(f"{unit}/") for name in row["methods"][row["method"]]):
                parts.append(_table(f"{UNITS[unit]}, at {where}", [row], unit, tuple(row["preference"])))
    about = f"Yardstick {found['yardstick']}, {found['prompts']} prompts"
    about += f" of {found['file']}" if found["file"] else ""
    about += f". {found['confidence']:.0%} intervals over prompts; they leave out training seeds, which vary more."
    return Group(*parts, Text(about, style="dim"))


def _table(title: str, rows: list[dict[str, Any]], unit: str, metrics: tuple[str, ...]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    table.add_column("")
    for metric in (*metrics, "kl"):
        table.add_column(heading_of(metric), justify="right")
    for row in rows:
        for method, found in row["methods"].items():
            name = row["version"] if method == row["method"] else f"  its {methods.title(method)}"
            cells = [cell(metric, found.get(f"{unit}/{metric}")) for metric in metrics]
            table.add_row(name, *cells, cell("kl", found.get("kl")))
    return table
