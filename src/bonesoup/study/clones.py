"""Run a cell by `dvc repro report`, in a clone of the project that belongs to the cell.

Clones share the project's DVC cache and run cache, so that a stage which several cells share runs once. A clone stays
until its cell is done: a killed cell goes on in it, and a failed one can be looked into.
"""

import contextlib
import subprocess
import threading
import time
from pathlib import Path

import psutil

from bonesoup.settings import profiles
from bonesoup.study.cells import Cell
from bonesoup.workspace import checkout, graph
from bonesoup.workspace.repro import dvc, follow, start_dvc


class Run:
    """A cell that runs; it ends with this process, even by kill -9.

    Attributes:
        clone: its folder.
        stages: the stages that have started or were skipped, in order.
        fault: why the ended run failed; None if it did not.
    """

    def __init__(self, cell: Cell, clone: Path):
        self.cell, self.clone = cell, clone
        self.stages: list[str] = []
        self.fault: str | None = None
        self._started = time.monotonic()
        self._process = start_dvc(["--wait-for-lock", "repro", "report"], clone, checkout.variables(clone))
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        try:
            for kind, text in follow(self._process):
                if kind != "said":
                    self.stages.append(text)
        except RuntimeError as error:
            # The last line advises to repeat the command.
            self.fault = str(error).rpartition("\n")[0]

    @property
    def seconds(self) -> float:
        """Return the seconds since the start."""
        return time.monotonic() - self._started

    @property
    def running(self) -> bool:
        """Return True until the process has ended and its output is read."""
        return self._listener.is_alive()

    def stop(self) -> None:
        """Kill DVC and the stage that it runs."""
        with contextlib.suppress(psutil.NoSuchProcess):
            family = [psutil.Process(self._process.pid), *psutil.Process(self._process.pid).children(recursive=True)]
            for process in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(family, timeout=10)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)


def start(root: Path, folder: Path, commit: str, cell: Cell) -> Run:
    """Start a cell in folder/CELL, where its last run stopped if there was one.

    Raises:
        RuntimeError: data that DVC tracks is not in the cache; DVC's message.
    """
    clone = folder / cell.name
    # DVC takes what a killed run of this cell has locked for locked until init has reaped its process.
    (clone / ".dvc/tmp/rwlock").unlink(missing_ok=True)
    checkout.prepare(root, clone, commit)
    with open(clone / "params.yaml", "w") as out:
        profiles.yaml.dump(cell.document(), out)
    if borrowed := checkout.borrowed_paths(root, clone):
        checkout.change_settings(clone, None, borrowed)
    if sources := graph.read(clone).sources:
        dvc(clone, "checkout", *sources)
    return Run(cell, clone)
