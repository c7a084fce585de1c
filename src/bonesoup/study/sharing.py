"""Decide which cells may run side by side: one makes what two share, and the run cache gives it to the other."""

from collections.abc import Iterable
from pathlib import Path

from bonesoup.study.cells import Cell
from bonesoup.workspace.declared import stages
from bonesoup.workspace.repro import RUNNING, SKIPPED

# Stages worth waiting for, in the order in which they run.
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
    """Tell whether a cell would make nothing that a running one is about to make.

    Args:
        running: cells, each with the output of its run.
    """
    return all(reached(said) >= parting(cell, other) for other, said in running)


def parting(one: Cell, other: Cell) -> int:
    """Count the STAGES that two cells share; what none of them reads comes after all of them."""
    if (one.seed, one.profile, one.data) != (other.seed, other.profile, other.data):
        return 0
    keys = one.changes.keys() | other.changes.keys()
    sections = {key.split(".")[0] for key in keys if one.changes.get(key) != other.changes.get(key)}
    first = readers(Path("."))
    return min((first.get(section, len(STAGES)) for section in sections), default=len(STAGES))


def reached(said: str) -> int:
    """Count the STAGES that a run has finished, by its output."""
    matches = [RUNNING.match(line) or SKIPPED.match(line) for line in said.splitlines()]
    seen = [match[1].partition("@")[0] for match in matches if match]
    # The stages of one kind, such as reward@, come one after another: while the last is of STAGES, its kind goes on.
    if seen and seen[-1] in STAGES:
        return STAGES.index(seen[-1])
    return max((STAGES.index(kind) + 1 for kind in seen if kind in STAGES), default=0)
