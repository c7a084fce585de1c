"""Run a study's cells in a clone of the last commit until all are done, or the time is over."""

import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bonesoup import checkout
from bonesoup.files import digest, read_json, read_jsonl, write_json
from bonesoup.locks import exclusive
from bonesoup.study import queue, results
from bonesoup.study.cells import Cell

FOLDER = Path("var/study")
POLL = 2.0


@dataclass
class Outcome:
    """What a run of a study came to."""

    done: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Place:
    """Where a study runs."""

    study: str
    folder: Path
    own: Path
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
    """Run the cells that have no result yet; those of one seed share stages by the run cache.

    Args:
        root: the project, the present folder.
        jobs: cells side by side.
        seconds: after which the rest is left for another time.
        say: called with a line for each cell that starts or ends.
        show: called with what runs now.

    Raises:
        TimeoutError: another process runs this study.
        ValueError: a result of other settings.
    """
    deadline = float("inf") if seconds is None else time.monotonic() + seconds
    outcome = Outcome()
    missing = [cell for cell in cells if not results.known(study, cell)]
    if not missing:
        return outcome
    folder = root.absolute() / FOLDER / study
    with exclusive(folder / "lock", wait=0):
        commit = checkout.resolve(root, "HEAD")
        own = folder / commit[:12]
        checkout.prepare(root, own, commit, None, {})
        queue.empty(own)
        place = _Place(study, folder, own, commit, queue.environment(folder))
        missing = [cell for cell in missing if not _collect(place, cell, 0.0)]
        for wave in waves(missing):
            if time.monotonic() < deadline:
                _wave(place, wave, jobs, deadline, outcome, say, show)
    settled = {*outcome.done, *outcome.failed}
    outcome.left = [cell.name for cell in missing if cell.name not in settled]
    return outcome


def waves(cells: list[Cell]) -> list[list[Cell]]:
    """The first cell of every seed, then the rest: what the cells of a seed share is there before two need it."""
    first = {}
    for cell in cells:
        first.setdefault(cell.seed, cell)
    rest = [cell for cell in cells if cell is not first[cell.seed]]
    return [wave for wave in (list(first.values()), rest) if wave]


def _wave(
    place: _Place,
    cells: list[Cell],
    jobs: int,
    deadline: float,
    outcome: Outcome,
    say: Callable[[str], None],
    show: Callable[[str], None],
) -> None:
    waiting = {cell.name: cell for cell in cells}
    started: dict[str, float] = {}
    workers: list[subprocess.Popen] = []
    try:
        for cell in cells:
            show(f"queueing {cell.name}")
            queue.put(place.own, cell, place.env)
        workers = queue.start(place.own, min(jobs, len(cells)), place.env)
        while waiting and time.monotonic() < deadline:
            time.sleep(POLL)
            idle = all(worker.poll() is not None for worker in workers)
            running = []
            for name, (state, revision) in queue.states(place.own).items():
                if name not in waiting:
                    continue
                if state != "Queued" and name not in started:
                    started[name] = time.monotonic()
                    say(f"{name} started")
                took = time.monotonic() - started.get(name, time.monotonic())
                if state == "Running":
                    now = queue.stage(queue.output(place.own, revision)) or "starting"
                    running.append(f"{name}: {now} ({took:.0f} s)")
                elif state == "Success" and _collect(place, waiting[name], took):
                    outcome.done.append(waiting.pop(name).name)
                    say(f"{name} done in {took:.0f} s")
                elif state in ("Success", "Failed"):
                    outcome.failed[waiting.pop(name).name] = queue.complaint(queue.output(place.own, revision))
                    say(f"{name} failed: {outcome.failed[name]}")
            show("; ".join(running))
            if idle and waiting:
                for name in waiting:
                    outcome.failed[name] = "the worker that should run it ended"
                break
    finally:
        queue.stop(workers)
        queue.empty(place.own)


def _collect(place: _Place, cell: Cell, seconds: float) -> bool:
    """Write the result of a finished experiment; False where there is none."""
    found = queue.finished(place.own, cell.name)
    if found is None:
        return False
    report, lock = found
    kept = place.folder / "kept" / cell.name
    stages = times(place.folder / "times", lock, kept / "var/stages.jsonl")
    results.write(place.study, cell, report, place.commit, stages, seconds)
    shutil.rmtree(kept / "scratch", ignore_errors=True)
    return True


def times(known: Path, lock: dict[str, dict], ran: Path) -> dict[str, dict]:
    """Seconds and peak memory of a cell's stages, also of those that the run cache gave.

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
            write_json(where, {key: own[stage][key] for key in ("seconds", "peak_mb")})
        if where.is_file():
            found[stage] = read_json(where)
    return found
