"""Run a study's cells from the last commit until all are done, or the time is over."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ruamel.yaml import YAML

from bonesoup.files import digest, read_json, write_json
from bonesoup.locks import exclusive
from bonesoup.paths import MEASURED, METRICS, STUDIES, TIMES
from bonesoup.study import clones, results, sharing
from bonesoup.study.cells import Cell, alike, identity
from bonesoup.workspace import checkout, dvc_lock, repro

POLL = 1.0


@dataclass
class Outcome:
    """The cells of a run of a study, by outcome."""

    done: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)


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
    waiting = [cell for cell in cells if not results.known(study, cell)]
    if not waiting:
        return outcome
    folder = root.absolute() / STUDIES / study
    running: list[clones.Run] = []
    with exclusive(folder / "lock", wait=0):
        commit = checkout.resolve(root, "HEAD")
        try:
            while (waiting or running) and time.monotonic() < deadline:
                for ended in [item for item in running if not item.running]:
                    running.remove(ended)
                    with _failing_alone(ended.cell.name, outcome, say):
                        if fault := ended.fault or _collect(study, commit, folder, ended):
                            raise RuntimeError(fault)
                        outcome.done.append(ended.cell.name)
                        say(f"{ended.cell.name} done in {ended.seconds:.0f} s")
                while len(running) < jobs and (cell := _next(waiting, running)):
                    waiting.remove(cell)
                    with _failing_alone(cell.name, outcome, say):
                        running.append(clones.start(root, folder, commit, cell))
                        say(f"{cell.name} started")
                show("; ".join(f"{item.cell.name}: {_now(item)}" for item in running))
                time.sleep(POLL)
        finally:
            for item in running:
                item.stop()
    left = [*waiting, *(item.cell for item in running)]
    outcome.left = [cell.name for cell in cells if cell in left]
    return outcome


@contextmanager
def _failing_alone(name: str, outcome: Outcome, say: Callable[[str], None]) -> Iterator[None]:
    """Note the failure of a cell, so that the others go on."""
    try:
        yield
    except (RuntimeError, ValueError, OSError) as error:
        outcome.failed[name] = str(error)
        say(f"{name} failed: {error}")


def _next(waiting: list[Cell], running: list[clones.Run]) -> Cell | None:
    present = [(item.cell, item.stages) for item in running]
    return next((cell for cell in waiting if sharing.free(cell, present)), None)


def _now(item: clones.Run) -> str:
    return f"{item.stages[-1] if item.stages else 'starting'} ({item.seconds:.0f} s)"


def _collect(study: str, commit: str, folder: Path, ended: clones.Run) -> str | None:
    """Write the result of a cell and remove its clone; return the reason if the result is not the cell's."""
    cell, clone = ended.cell, ended.clone
    document, stages = YAML(typ="safe").load(clone / "params.yaml"), dvc_lock.stages(clone / dvc_lock.LOCK)
    path = document["data"]["path"]
    read = {entry["path"]: entry["md5"] for entry in stages["prepare"]["deps"]}
    if not alike(identity(document, read.get(path)), cell.identity()):
        return f"it read the {path} of the last commit, which differs from the present one: commit that, or restore it"
    spent = times(folder / "times", stages, clone / TIMES)
    report, fronts = read_json(clone / METRICS / "report.json"), read_json(clone / MEASURED)
    results.write(study, cell, report, fronts, commit, spent, ended.seconds)
    shutil.rmtree(clone)
    return None


def times(known: Path, lock: dict[str, dict], ran: Path) -> dict[str, dict]:
    """Return wall seconds, CPU seconds and peak memory of a cell's stages, including those restored from the run cache.

    Args:
        known: folder with the times of stages that have run, by digest of what dvc.lock records of them.
        lock: that record, of every stage of the cell.
        ran: stages.jsonl of the cell.
    """
    ran_here = repro.times(ran)
    spent = {}
    for stage, entry in lock.items():
        where = known / f"{digest(entry)}.json"
        if stage in ran_here:
            row = ran_here[stage]
            write_json(where, {key: row[key] for key in ("seconds", "cpu", "peak_mb") if key in row})
        if where.is_file():
            spent[stage] = read_json(where)
    return spent
