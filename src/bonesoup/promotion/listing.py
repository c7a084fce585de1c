"""What the registry holds, from the tags of its versions alone: nothing is downloaded."""

from datetime import UTC, datetime
from typing import Any

from mlflow.entities.model_registry import ModelVersion
from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from bonesoup.evaluation.samples import UNITS
from bonesoup.promotion.champion import DECISION, PREVIOUS
from bonesoup.promotion.compare import cell, heading_of
from bonesoup.registry import adoption, members
from bonesoup.registry.names import soup_name, versions
from bonesoup.registry.scores import SCORED, parse, scored
from bonesoup.registry.store import Store

SHOWN = ("inner_product_interior", "inner_product", "controllability")


def listing(store: Store, prefix: str) -> dict[str, Any]:
    """{"yardstick": digest of the current one, "models": {name: [version, newest first]}}."""
    held = adoption.current(store, prefix)
    names = [model.name for model in members.models(store, prefix)]
    # The soup first: it is what is promoted.
    names.sort(key=lambda name: (name != soup_name(prefix), name))
    models = {name: [entry(version) for version in reversed(versions(store.client, name))] for name in names}
    return {"yardstick": held.tags[adoption.DIGEST] if held else None, "models": models}


def entry(version: ModelVersion) -> dict[str, Any]:
    tags = version.tags
    digests = [key.removeprefix(SCORED) for key in tags if key.startswith(SCORED)]
    return {
        "version": int(version.version),
        "aliases": sorted(version.aliases),
        "kind": tags.get("kind"),
        "objectives": tags.get("objectives", "").split(","),
        "preference": tags.get("preference"),
        "created": datetime.fromtimestamp(version.creation_timestamp / 1000, UTC).isoformat(timespec="seconds"),
        "metrics": _metrics(tags, ""),
        "yardstick": tags.get("yardstick"),
        "scores": {
            digest: {
                "methods": scored(version, digest),
                "metrics": _metrics(tags, f"{digest}/"),
                "prompts": tags.get(f"prompts/{digest}"),
            }
            for digest in digests
        },
        "decision": tags.get(DECISION),
        "previous_champion": tags.get(PREVIOUS),
        "lineage": {key: tags.get(key) for key in ("git_commit", "git_dirty", "seed", "data_digest", "pipeline")},
    }


def _metrics(tags: dict[str, str], prefix: str) -> dict[str, dict[str, float]]:
    mine = {key.removeprefix(prefix): text for key, text in tags.items() if key.startswith(prefix)}
    names = [key for key in mine if key.partition("/")[0] in UNITS or key in ("kl", "tokens")]
    # A tag cannot hold the @ of hypervolume@-1.
    return {name.replace("hypervolume_", "hypervolume@"): parse(mine[name]) for name in names}


def terminal(found: dict[str, Any]) -> Group:
    """The list for a terminal of 100 columns or more."""
    parts: list[Table | Text] = []
    current = found["yardstick"]
    for name, entries in found["models"].items():
        table = Table(
            title=name, title_justify="left", title_style="bold", box=SIMPLE_HEAD, show_lines=len(entries) > 1
        )
        table.add_column("", justify="right")
        table.add_column("aliases")
        table.add_column("own evaluation", no_wrap=True)
        table.add_column(f"yardstick {current[:8]}" if current else "yardstick", no_wrap=True)
        table.add_column("last decision", ratio=1)
        table.add_column("made from", no_wrap=True)
        for row in entries:
            table.add_row(
                str(row["version"]),
                Text("\n".join(row["aliases"]), style="green"),
                _scores(row["metrics"]),
                "the same"
                if current == row["yardstick"]
                else _scores(row["scores"].get(current, {}).get("metrics", {})),
                row["decision"] or "",
                _lineage(row),
            )
        parts.append(table)
    if not parts:
        return Group(Text("No versions: `bonesoup register` sends those of the present run."))
    return Group(*parts, Text("Learned reward where no gold score is known. * uncommitted code.", style="dim"))


def _scores(metrics: dict[str, dict[str, float]]) -> str:
    unit = next((unit for unit in UNITS if any(name.startswith(f"{unit}/") for name in metrics)), None)
    if unit is None:
        return ""
    own = {name.partition("/")[2]: found for name, found in metrics.items() if name.startswith(f"{unit}/")}
    grid = "controllability" in own
    names = [name for name in SHOWN if name in own] if grid else [name for name in own if name != "inner_product"]
    lines = [f"{heading_of(name)[:15]:15} {cell(name, own[name])}" for name in names]
    if "kl" in metrics:
        lines.append(f"{'KL':15} {cell('kl', metrics['kl'])}")
    return "\n".join(lines)


def _lineage(row: dict[str, Any]) -> str:
    made = row["lineage"]
    dirty = "*" if made["git_dirty"] == "true" else ""
    return (
        f"{(made['git_commit'] or '?')[:9]}{dirty} seed {made['seed']}\ndata {(made['data_digest'] or '?')[:10]}\n"
        f"{row['created'][:16].replace('T', ' ')}"
    )
