"""Two cells run side by side only if neither makes files that the other is about to make."""

from pathlib import Path

import pytest

from bonesoup.study.cells import Cell
from bonesoup.study.sharing import free, parting, reached

ROOT = Path(__file__).parents[2]
DEFAULT = Cell("default", 0, "embedded", {"evaluation.samples": 64})


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def cell(seed: int = 0, profile: str = "embedded", **changes) -> Cell:
    return Cell(
        "other", seed, profile, {"evaluation.samples": 64} | {k.replace("__", "."): v for k, v in changes.items()}
    )


@pytest.mark.parametrize(
    ("stages", "finished"),
    [
        ([], 0),
        (["prepare"], 0),
        (["prepare", "gate@data"], 1),
        (["prepare", "gate@data", "sft"], 1),
        (["prepare", "gate@data", "sft", "reward@helpful", "reward@harmless"], 2),
        (["prepare", "gate@data", "sft", "reward@helpful", "gate@reward", "normalise"], 3),
        (["prepare", "sft", "reward@helpful", "normalise", "candidates"], 4),
        (["prepare", "sft", "reward@helpful", "normalise", "basis", "policy@specialists", "policy@oracles"], 4),
        (["prepare", "sft", "reward@helpful", "normalise", "policy@specialists", "soup", "front@bone"], 5),
    ],
)
def test_a_stage_that_has_started_is_not_finished(stages, finished):
    assert reached(stages) == finished


@pytest.mark.parametrize(
    ("other", "shared"),
    [
        (cell(seed=1), 0),
        (cell(profile="embedded-3"), 0),
        (cell(data__path="words.yaml"), 0),
        (cell(model__hidden=32), 1),
        (cell(hardware__gradient_checkpointing=True), 1),
        (cell(rewards__helpful__steps=5), 2),
        (cell(rl__kl=0.3), 4),
        (cell(rl__kl=0.3, model__hidden=32), 1),
        (cell(basis__beta=0.8), 5),
        (cell(), 5),
    ],
)
def test_cells_share_the_stages_before_the_first_that_reads_what_differs(other, shared):
    assert parting(DEFAULT, other) == parting(other, DEFAULT) == shared


def test_a_cell_waits_for_what_it_shares_with_a_running_one():
    early, later = (
        ["prepare", "gate@data", "sft"],
        ["prepare", "sft", "normalise", "policy@specialists"],
    )
    assert free(cell(rl__kl=0.3), [])
    assert free(cell(seed=1), [(DEFAULT, [])])
    assert free(cell(model__hidden=32), [(DEFAULT, early)])
    assert not free(cell(rl__kl=0.3), [(DEFAULT, early)])
    assert free(cell(rl__kl=0.3), [(DEFAULT, later)])
    # Another basis has the same specialists.
    assert not free(cell(basis__beta=0.8), [(DEFAULT, later)])
    assert not free(cell(rl__kl=0.3), [(DEFAULT, later), (cell(rl__kl=0.1), early)])
