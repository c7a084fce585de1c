"""Decide which cells may run side by side: one makes the stages two cells share, and the run cache serves the other."""

from collections.abc import Iterable
from pathlib import Path

from bonesoup.study.cells import Cell
from bonesoup.workspace.declared import stages

# Stages worth waiting for, in running order.
STAGES = ("prepare", "sft", "reward", "normalise", "policy")


def readers(root: Path) -> dict[str, int]:
    """Map each section of the settings to the first of STAGES that reads it, by dvc.yaml."""
    declared = stages(root)
    first: dict[str, int] = {}
    for index, name in enumerate(STAGES):
        for param in declared[name].params:
            first.setdefault(param.split(".")[0], index)
    return first


def free(cell: Cell, running: Iterable[tuple[Cell, list[str]]]) -> bool:
    """Return True if a cell makes nothing that a running cell is about to make.

    Args:
        running: cells, each with the stages that it has started or skipped, in order.
    """
    return all(reached(names) >= parting(cell, other) for other, names in running)


def parting(cell: Cell, other: Cell) -> int:
    """Count the STAGES that two cells share; what none of them reads comes after all of them."""
    if (cell.seed, cell.profile, cell.data) != (other.seed, other.profile, other.data):
        return 0
    keys = cell.changes.keys() | other.changes.keys()
    sections = {key.split(".")[0] for key in keys if cell.changes.get(key) != other.changes.get(key)}
    first = readers(Path("."))
    return min((first.get(section, len(STAGES)) for section in sections), default=len(STAGES))


def reached(names: list[str]) -> int:
    """Count the STAGES that a run has finished, by the stages that it has started or skipped, in order."""
    kinds = [name.partition("@")[0] for name in names]
    # Stages of one kind, such as reward@, run one after another: while the last is in STAGES, its kind is still
    # running.
    if kinds and kinds[-1] in STAGES:
        return STAGES.index(kinds[-1])
    return max((STAGES.index(kind) + 1 for kind in kinds if kind in STAGES), default=0)
