"""Which cells may run side by side: what two of them share is made by one and given to the other by the run cache."""

from collections.abc import Iterable

from bonesoup.study.cells import Cell
from bonesoup.workspace.repro import RUNNING, SKIPPED

# Those worth waiting for, in the order in which they run.
STAGES = ("prepare", "sft", "reward", "normalise", "policy")
# The first of them that reads a section of the settings; what none reads comes after all of them.
READS = {
    "data": 0,
    "model": 1,
    "sft": 1,
    "threads": 1,
    "device": 1,
    "rewards": 2,
    "objectives": 3,
    "normalise": 3,
    "generation": 3,
    "rl": 4,
}


def free(cell: Cell, running: Iterable[tuple[Cell, str]]) -> bool:
    """Whether a cell would make nothing that a running one is about to make.

    Args:
        running: cells, each with what its run has printed.
    """
    return all(reached(said) >= parting(cell, other) for other, said in running)


def parting(one: Cell, other: Cell) -> int:
    """How many of STAGES two cells share."""
    if (one.seed, one.profile, one.data) != (other.seed, other.profile, other.data):
        return 0
    keys = one.changes.keys() | other.changes.keys()
    sections = {key.split(".")[0] for key in keys if one.changes.get(key) != other.changes.get(key)}
    return min((READS.get(section, len(STAGES)) for section in sections), default=len(STAGES))


def reached(said: str) -> int:
    """How many of STAGES a run has finished, by what it has printed."""
    matches = [RUNNING.match(line) or SKIPPED.match(line) for line in said.splitlines()]
    seen = [match[1].partition("@")[0] for match in matches if match]
    # The stages of one kind, such as reward@, come one after another: while the last is of STAGES, its kind goes on.
    if seen and seen[-1] in STAGES:
        return STAGES.index(seen[-1])
    return max((STAGES.index(kind) + 1 for kind in seen if kind in STAGES), default=0)
