"""Run a study's cells from the last commit until all are done, or the time is over."""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ruamel.yaml import YAML

from bonesoup.files import digest, read_json, read_jsonl, write_json
from bonesoup.locks import exclusive
from bonesoup.paths import MEASURED, METRICS, TIMES
from bonesoup.study import clones, results, sharing
from bonesoup.study.cells import Cell, alike, identity
from bonesoup.workspace import checkout, dvc_lock

FOLDER = Path("var/study")
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
        RuntimeError: a cell cannot start.
    """
    deadline = float("inf") if seconds is None else time.monotonic() + seconds
    outcome = Outcome()
    waiting = [cell for cell in cells if not results.known(study, cell)]
    if not waiting:
        return outcome
    folder = root.absolute() / FOLDER / study
    running: list[clones.Run] = []
    with exclusive(folder / "lock", wait=0):
        commit = checkout.resolve(root, "HEAD")
        try:
            while (waiting or running) and time.monotonic() < deadline:
                for ended in [item for item in running if not item.running]:
                    running.remove(ended)
                    name, fault = ended.cell.name, ended.fault or _collect(study, commit, folder, ended)
                    if fault:
                        outcome.failed[name] = fault
                        say(f"{name} failed: {fault}")
                    else:
                        outcome.done.append(name)
                        say(f"{name} done in {ended.seconds:.0f} s")
                while len(running) < jobs and (cell := _next(waiting, running)):
                    waiting.remove(cell)
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
    ran_here = {row["stage"]: row for row in read_jsonl(ran)} if ran.is_file() else {}
    spent = {}
    for stage, entry in lock.items():
        where = known / f"{digest(entry)}.json"
        if stage in ran_here:
            row = ran_here[stage]
            write_json(where, {key: row[key] for key in ("seconds", "cpu", "peak_mb") if key in row})
        if where.is_file():
            spent[stage] = read_json(where)
    return spent
