"""Run a study's cells in a clone of the last commit until all are done, or the time is over."""

import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bonesoup.files import digest, read_json, read_jsonl, write_json
from bonesoup.locks import exclusive
from bonesoup.study import queue, results, sharing
from bonesoup.study.cells import Cell
from bonesoup.workspace import checkout

FOLDER = Path("var/study")
POLL = 2.0


@dataclass
class Outcome:
    """The cells of a run of a study, by outcome."""

    done: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Place:
    """The folders and the commit of a running study."""

    study: str
    folder: Path
    clone: Path
    commit: str
    env: dict[str, str]


def run(
    root: Path,
    study: str,
    cells: list[Cell],
    jobs: int,
    seconds: float | None,
    say: Callable[[str], None],
    show: Callable[[str], None],
) -> Outcome:
    """Run the cells without a result, in order; a cell waits while another makes a stage that the two share.

    Args:
        root: the project, the present folder.
        jobs: cells side by side.
        seconds: time limit; the remaining cells are left for another run.
        say: called with a line for each cell that starts or ends.
        show: called with the stages that run now.

    Raises:
        TimeoutError: another process runs this study.
        ValueError: a result was made with other settings.
    """
    deadline = float("inf") if seconds is None else time.monotonic() + seconds
    outcome = Outcome()
    missing = [cell for cell in cells if not results.known(study, cell)]
    if not missing:
        return outcome
    folder = root.absolute() / FOLDER / study
    with exclusive(folder / "lock", wait=0):
        commit = checkout.resolve(root, "HEAD")
        clone = folder / commit[:12]
        for old in folder.glob("[0-9a-f]" * 12):
            if old != clone:
                shutil.rmtree(old)
        checkout.prepare(root, clone, commit, None, {})
        queue.empty(clone)
        place = _Place(study, folder, clone, commit, queue.environment(folder))
        missing = [cell for cell in missing if not _collect(place, cell, 0.0)]
        _work(place, missing, jobs, deadline, outcome, say, show)
    settled = {*outcome.done, *outcome.failed}
    outcome.left = [cell.name for cell in missing if cell.name not in settled]
    return outcome


@dataclass
class _Active:
    """A cell in DVC's queue: its state there, its output so far, and when it started."""

    cell: Cell
    state: str = "Queued"
    output: str = ""
    started: float | None = None

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started if self.started is not None else 0.0


def _work(
    place: _Place,
    cells: list[Cell],
    jobs: int,
    deadline: float,
    outcome: Outcome,
    say: Callable[[str], None],
    show: Callable[[str], None],
) -> None:
    waiting = list(cells)
    active: dict[str, _Active] = {}
    workers: list[subprocess.Popen] = []
    try:
        while (waiting or active) and time.monotonic() < deadline:
            alive = [worker for worker in workers if worker.poll() is None]
            _look(place, active, say)
            _settle(place, active, outcome, say, lost=not alive)
            while len(active) < jobs and (cell := _next(waiting, active)):
                waiting.remove(cell)
                queue.put(place.clone, cell, place.env)
                active[cell.name] = _Active(cell)
            if any(item.state == "Queued" for item in active.values()) and len(alive) < len(active):
                workers.append(queue.start(place.clone, len(workers), place.env))
            show("; ".join(f"{name}: {_now(item)}" for name, item in active.items()))
            time.sleep(POLL)
    finally:
        queue.stop(workers)
        queue.empty(place.clone)


def _next(waiting: list[Cell], active: dict[str, _Active]) -> Cell | None:
    running = [(item.cell, item.output) for item in active.values()]
    return next((cell for cell in waiting if sharing.free(cell, running)), None)


def _look(place: _Place, active: dict[str, _Active], say: Callable[[str], None]) -> None:
    for name, (state, revision) in queue.states(place.clone).items():
        if name not in active:
            continue
        item = active[name]
        item.state, item.output = state, queue.output(place.clone, revision)
        if state != "Queued" and item.started is None:
            item.started = time.monotonic()
            say(f"{name} started")


def _settle(
    place: _Place, active: dict[str, _Active], outcome: Outcome, say: Callable[[str], None], lost: bool
) -> None:
    """Take ended cells out of `active`; if no worker is left, also those that the queue records as running."""
    for name, item in list(active.items()):
        if item.state == "Success" and _collect(place, item.cell, item.seconds):
            outcome.done.append(name)
            say(f"{name} done in {item.seconds:.0f} s")
        elif item.state in ("Success", "Failed"):
            outcome.failed[name] = queue.complaint(item.output)
            say(f"{name} failed: {outcome.failed[name]}")
        elif item.state == "Running" and lost:
            outcome.failed[name] = "its worker ended: was it killed for memory?"
            say(f"{name} failed: {outcome.failed[name]}")
        else:
            continue
        del active[name]


def _now(item: _Active) -> str:
    return f"{queue.stage(item.output) or 'starting'} ({item.seconds:.0f} s)"


def _collect(place: _Place, cell: Cell, seconds: float) -> bool:
    """Write the result of a finished experiment; return False if there is none."""
    result = queue.finished(place.clone, cell)
    if result is None:
        return False
    report, lock = result
    kept = place.folder / "kept" / cell.name
    stages = times(place.folder / "times", lock, kept / "var/stages.jsonl")
    results.write(place.study, cell, report, place.commit, stages, seconds)
    shutil.rmtree(kept, ignore_errors=True)
    return True


def times(known: Path, lock: dict[str, dict], ran: Path) -> dict[str, dict]:
    """Return wall seconds, CPU seconds and peak memory of a cell's stages, including those restored from the run cache.

    Args:
        known: folder with the times of stages that have run, by digest of what dvc.lock records of them.
        lock: that record, of every stage of the cell.
        ran: stages.jsonl of the cell.
    """
    own = {row["stage"]: row for row in read_jsonl(ran)} if ran.is_file() else {}
    found = {}
    for stage, entry in lock.items():
        where = known / f"{digest(entry)}.json"
        if stage in own:
            write_json(where, {key: own[stage][key] for key in ("seconds", "cpu", "peak_mb") if key in own[stage]})
        if where.is_file():
            found[stage] = read_json(where)
    return found
