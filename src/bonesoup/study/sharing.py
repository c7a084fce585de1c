"""Decide which cells may run side by side: one makes the stages two cells share, and the run cache serves the other."""

from collections.abc import Iterable
from pathlib import Path

from bonesoup.study.cells import Cell
from bonesoup.workspace.declared import stages
from bonesoup.workspace.repro import RUNNING, SKIPPED

# Stages worth waiting for, in running order.
STAGES = ("prepare", "sft", "reward", "normalise", "policy")


def readers(root: Path) -> dict[str, int]:
    """Map each section of the settings to the first of STAGES that reads it, by dvc.yaml."""
    declared = stages(root)
    found: dict[str, int] = {}
    for index, name in enumerate(STAGES):
        for param in declared[name].params:
            found.setdefault(param.split(".")[0], index)
    return found


def free(cell: Cell, running: Iterable[tuple[Cell, str]]) -> bool:
    """Return True if a cell makes nothing that a running cell is about to make.

    Args:
        running: cells, each with the output of its run.
    """
    return all(reached(output) >= parting(cell, other) for other, output in running)


def parting(cell: Cell, other: Cell) -> int:
    """Count the STAGES that two cells share; what none of them reads comes after all of them."""
    if (cell.seed, cell.profile, cell.data) != (other.seed, other.profile, other.data):
        return 0
    keys = cell.changes.keys() | other.changes.keys()
    sections = {key.split(".")[0] for key in keys if cell.changes.get(key) != other.changes.get(key)}
    first = readers(Path("."))
    return min((first.get(section, len(STAGES)) for section in sections), default=len(STAGES))


def reached(output: str) -> int:
    """Count the STAGES that a run has finished, by its output."""
    matches = [RUNNING.match(line) or SKIPPED.match(line) for line in output.splitlines()]
    seen = [match[1].partition("@")[0] for match in matches if match]
    # Stages of one kind, such as reward@, run one after another: while the last is in STAGES, its kind is still
    # running.
    if seen and seen[-1] in STAGES:
        return STAGES.index(seen[-1])
    return max((STAGES.index(kind) + 1 for kind in seen if kind in STAGES), default=0)
