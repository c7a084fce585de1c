"""Derive the settings that follow from others, which nobody has to write; params.yaml states them for DVC to see."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from bonesoup.settings.rules import counts, slots
from bonesoup.settings.section import Name
from bonesoup.settings.sources import prepared
from bonesoup.settings.training import Basis

# Lists in which one value follows from other settings; people choose the others.
CANDIDATES = ("seek.betas", "extrapolation.scales")


class _Stated(BaseModel):
    """The settings that decide the policies."""

    objectives: list[Name]
    methods: list[str]
    basis: Basis
    oracles: list[list[float]]


def derived(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return dotted key -> value of what follows from the rest of params.yaml, as plain data.

    Settings that are wrong yield nothing: the check reports them.
    """
    return _policies(settings) | _sources(settings) | _candidates(settings)


def _policies(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Put the slots of a kind into one group; a group that names a slot or a kind, or `all`, takes those."""
    try:
        stated = _Stated.model_validate({key: settings.get(key) for key in _Stated.model_fields})
        needed = slots(stated.methods, counts(len(stated.objectives), stated.basis, stated.oracles))
    except ValueError:
        return {}
    kinds: dict[str, list[str]] = {}
    for slot in needed:
        kinds.setdefault(f"{slot.rpartition('-')[0]}s", []).append(slot)
    derived = {"policies": {group: {"slots": listed} for group, listed in kinds.items()}}
    named = kinds | {slot: [slot] for slot in needed} | {"all": needed}
    for group in _section(settings, "policies"):
        if group in named:
            derived[f"policies.{group}.slots"] = named[group]
    return derived


def _sources(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Name the objectives that have a file each, and the file that each reward is made from."""
    files = _section(settings, "data").get("files")
    derived: dict[str, Any] = {"data.labels": list(files)} if isinstance(files, Mapping) else {}
    for objective, reward in _section(settings, "rewards").items():
        if isinstance(reward, Mapping):
            function = reward.get("function") if reward.get("kind") == "function" else None
            derived[f"rewards.{objective}.source"] = _module(function) if function else prepared(objective)
    return derived


def _module(function: Any) -> str:
    """Find the file of `package.module:name` in this project; if there is none, return the usual place."""
    stem = str(function).partition(":")[0].replace(".", "/")
    candidates = [f"{folder}{stem}{ending}" for folder in ("src/", "") for ending in (".py", "/__init__.py")]
    return next((path for path in candidates if Path(path).is_file()), candidates[0])


def _candidates(settings: Mapping[str, Any]) -> dict[str, list[float]]:
    """Add basis.beta to the values it is compared with, and 1 to the scales."""
    derived = {}
    beta, betas = _beta(settings), _section(settings, "seek").get("betas")
    if isinstance(beta, float) and _numbers(betas) and beta not in betas:
        derived["seek.betas"] = sorted([*betas, beta])
    scales = _section(settings, "extrapolation").get("scales")
    if (_numbers(scales) or scales == []) and 1 not in scales:
        derived["extrapolation.scales"] = sorted([1.0, *scales])
    return derived


def _beta(settings: Mapping[str, Any]) -> Any:
    """Return basis.beta, as a number if it is `auto`; None if the settings it follows from are wrong."""
    beta, evaluation = _section(settings, "basis").get("beta"), _section(settings, "evaluation")
    if beta != "auto":
        return beta
    try:
        basis = Basis.model_validate(settings["basis"])
        return basis.resolved(len(settings["objectives"]), evaluation["parts"], evaluation["interior"])
    except (KeyError, TypeError, ValueError):
        return None


def _numbers(values: Any) -> bool:
    return isinstance(values, list) and bool(values) and all(isinstance(value, float | int) for value in values)


def _section(settings: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    section = settings.get(key)
    return section if isinstance(section, Mapping) else {}
