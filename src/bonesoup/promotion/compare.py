"""Compare two versions on one yardstick: the metrics of both, and their differences paired by prompt."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from bonesoup.evaluation import point
from bonesoup.evaluation.samples import Front, shared_units
from bonesoup.evaluation.statistics import Estimate
from bonesoup.method.preferences import format_weights
from bonesoup.promotion.scoring import Machine, Scored, evaluate_fronts, score
from bonesoup.registry import yardstick
from bonesoup.registry.store import Store
from bonesoup.registry.versions import find, reference, soup_name
from bonesoup.registry.yardstick import Yardstick


def compare(store: Store, prefix: str, a: str, b: str, machine: Machine, echo: Callable[[str], None]) -> dict[str, Any]:
    """Compare the versions that two references name; scores them first if they are not scored yet.

    Raises:
        ValueError: no such version, the same version twice, or two that nothing compares.
    """
    pair = [find(store.client, text, soup_name(prefix)) for text in (a, b)]
    if reference(pair[0]) == reference(pair[1]):
        raise ValueError(f"{a} and {b} are both {reference(pair[0])}: name two versions")
    if pair[0].tags.get("objectives") != pair[1].tags.get("objectives"):
        about = " and ".join(f"{reference(v)} is about {v.tags.get('objectives', 'nothing known')}" for v in pair)
        raise ValueError(f"{about}: nothing compares them")
    measure = yardstick.load(store, prefix, machine.work)
    first, second = score(store, pair, measure, machine, echo)
    return difference(first, second, measure)


def difference(a: Scored, b: Scored, yardstick: Yardstick) -> dict[str, Any]:
    """Compare `b` with `a` over the whole grid, or at the one preference that either of them answers.

    Returns:
        {"yardstick", "a", "b", "prompts", "confidence", "preference": {objective: weight} or None for the grid,
        "units": {unit: {"a", "b", "difference": {metric: value, low, high}}}}; differences are b minus a.

    Raises:
        ValueError: the two answer different preferences, or one lies off the grid the other was scored on.
    """
    preference = _shared(a, b)
    # Keyed by the names of the versions, since both have the same method.
    fronts = [replace(a.front, method="a"), replace(b.front, method="b")]
    if preference is None:
        measured = _on_grid(fronts, yardstick)
    else:
        # Merged weights have no SFT policy to measure their KL to.
        kl = "merged" not in (a.version.tags["kind"], b.version.tags["kind"])
        measured = _at(preference, fronts, yardstick, kl)
    return {
        "yardstick": yardstick.digest,
        "a": a.name,
        "b": b.name,
        "prompts": len(yardstick.prompts),
        "confidence": yardstick.confidence,
        "preference": dict(zip(yardstick.objectives, preference, strict=True)) if preference else None,
        "units": {
            unit: {part: {name: e.plain() for name, e in metrics.items()} for part, metrics in parts.items()}
            for unit, parts in measured.items()
        },
    }


def _on_grid(fronts: list[Front], yardstick: Yardstick) -> dict[str, dict[str, dict[str, Estimate]]]:
    (block, *_) = evaluate_fronts(fronts, yardstick, baseline="a").blocks
    return {
        unit: {
            "a": block.metrics[unit]["a"],
            "b": block.metrics[unit]["b"],
            "difference": block.differences[unit]["b"],
        }
        for unit in shared_units(fronts)
    }


def _at(preference, fronts: list[Front], yardstick: Yardstick, kl: bool) -> dict[str, dict[str, dict[str, Estimate]]]:
    a, b = fronts
    measured = {}
    for unit in shared_units(fronts):
        parts = {front.method: point.estimates(front, preference, unit, yardstick.statistics) for front in fronts}
        parts["difference"] = point.differences(b, a, preference, unit, yardstick.statistics)
        measured[unit] = {
            part: {name: e for name, e in metrics.items() if kl or name != "kl"} for part, metrics in parts.items()
        }
    return measured


def _shared(a: Scored, b: Scored) -> tuple[float, ...] | None:
    """Return the one preference at which both are compared; None if both answer any."""
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
    return format_weights(dict(zip(scored.front.objectives, preference, strict=True)))
