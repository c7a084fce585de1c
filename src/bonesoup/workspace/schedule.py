"""Run stages side by side, each in a separate DVC process and a slot of the machine, once its inputs are ready."""

import os
import queue
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import psutil

from bonesoup.settings.schema import Settings
from bonesoup.workspace import graph, repro

# Assumed for a stage that has not run here before; torch and a small model take less than half of it.
UNKNOWN_PEAK = 2**31
BUSY_PAUSE, BUSY_TRIES = 2.0, 60


# One entry for each stage that may start now: its device, None on a CPU.
Slots = queue.SimpleQueue[str | None]


def slots(devices: Sequence[str | None]) -> Slots:
    """Make places for stages to run at once, each with a GPU to itself if there are any."""
    free: Slots = queue.SimpleQueue()
    for device in devices:
        free.put(device)
    return free


def devices(settings: Settings, jobs: int | None = None) -> list[str | None]:
    """Return the device of every slot: one a GPU, or as many as `threads` fit into the cores; `jobs` of them if given.

    Under accelerate a single stage takes every device.
    """
    if settings.hardware.accelerate:
        return [None]
    available = slots_of(settings.device, settings.threads, _cores(), os.environ.get("CUDA_VISIBLE_DEVICES"))
    return available if jobs is None else [available[k % len(available)] for k in range(jobs)]


def _cores() -> int:
    """Count the cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def slots_of(device: str, threads: int, cores: int, visible: str | None) -> list[str | None]:
    """List the slots of a machine, each as its device.

    Args:
        device, threads: from params.yaml.
        visible: CUDA_VISIBLE_DEVICES, if it is set.
    """
    if device != "cuda":
        return [None] * max(1, cores // threads)
    if visible is not None:
        # An empty value hides them all; the stage then reports that there is none.
        return [name.strip() for name in visible.split(",") if name.strip()] or [None]
    if not shutil.which("nvidia-smi"):
        return [None]
    listing = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, check=False).stdout
    # Slices of a GPU (MIG) are listed below it.
    return [str(index) for index in range(sum(line.startswith("GPU ") for line in listing.splitlines()))] or [None]


def run_one(
    stage: str,
    root: Path,
    variables: Mapping[str, str],
    slots: Slots,
    echo: Callable[[str], None],
    begun: Callable[[], None] = lambda: None,
) -> str:
    """Run one stage in a free slot; arguments, result and errors are those of `repro.reproduce_one`."""
    device = slots.get()
    try:
        chosen = {} if device is None else {"CUDA_VISIBLE_DEVICES": device}
        return repro.reproduce_one(stage, root, {**variables, **chosen}, echo, begun)
    finally:
        slots.put(device)


@dataclass(frozen=True)
class Work:
    """The stages of one run.

    Attributes:
        needs: stage -> the stages it waits for, in running order.
        due: stages that have changed, or depend on one that has.
    """

    needs: dict[str, list[str]]
    due: set[str]


def work(root: Path, plan: graph.Graph, targets: list[str]) -> Work:
    """Find which of `targets` and the stages they need are due; without targets, which of all stages."""
    due = plan.downstream(set(graph.status(root)) & set(plan.needs))
    names = plan.upstream(targets)
    return Work({name: [other for other in plan.needs[name] if other in names] for name in names}, due)


def reproduce(
    targets: list[str], devices: Sequence[str | None], echo: Callable[[str], None], show: Callable[[str], None]
) -> None:
    """Run the pipeline of the current folder, as many stages at once as there are devices.

    Args:
        targets: stages; all of them if the list is empty.
        echo: called with each line of the stages, and a heading for each.
        show: called every second with the stages that are running.

    Raises:
        RuntimeError: a stage or DVC itself failed. No stage starts after that, and running ones are waited for.
        ValueError: a target is not a stage.
    """
    here = Path(".")
    plan = graph.read(here)
    due = work(here, plan, targets)
    _Run(due, devices, echo, show).go()


class _Run:
    """One run of the stages that are due."""

    def __init__(
        self, work: Work, devices: Sequence[str | None], echo: Callable[[str], None], show: Callable[[str], None]
    ):
        self.needs, self.echo, self.show = work.needs, echo, show
        self.limit, self.slots = len(devices), slots(devices)
        self.waiting = [name for name in work.needs if name in work.due]
        self.running: dict[Future, tuple[str, float]] = {}
        self.peaks = _peaks()
        self.started, self.seen = time.monotonic(), 0
        for name in work.needs:
            if name not in work.due:
                self._skipped(name, "unchanged")

    def go(self) -> None:
        failures = []
        with ThreadPoolExecutor(self.limit) as pool:
            try:
                while self.waiting or self.running:
                    while (name := self._next()) is not None:
                        self.waiting.remove(name)
                        self.running[pool.submit(self._stage, name)] = (name, time.monotonic())
                    ended, _ = wait(self.running, timeout=1, return_when=FIRST_COMPLETED)
                    for future in ended:
                        del self.running[future]
                        if error := future.exception():
                            failures.append(error)
                            self.waiting.clear()
                    self._say()
            except KeyboardInterrupt:
                # The terminal has sent the signal to every process; leaving the pool waits until they have ended.
                self.waiting.clear()
                raise
        if failures:
            raise failures[0]

    def _next(self) -> str | None:
        """Choose the first stage whose inputs are ready and that fits into memory; alone, any stage may start."""
        if len(self.running) >= self.limit:
            return None
        unmade = {*self.waiting, *(name for name, _ in self.running.values())}
        ready = (name for name in self.waiting if not unmade & set(self.needs[name]))
        free = psutil.virtual_memory().available
        # What has just started has not taken its memory yet.
        free -= sum(self._peak(name) for name, since in self.running.values() if time.monotonic() - since < 30)
        return next((name for name in ready if not self.running or self._peak(name) < free), None)

    def _peak(self, name: str) -> int:
        return self.peaks.get(name, UNKNOWN_PEAK)

    def _stage(self, name: str) -> None:
        def begun() -> None:
            self.echo(f"[bold]{self._number()} {name}[/bold]  ({time.monotonic() - self.started:.0f} s so far)")

        def pass_on(line: str) -> None:
            self.echo(repro.escape(line))

        for left in reversed(range(BUSY_TRIES)):
            try:
                outcome = run_one(name, Path("."), repro.environment(), self.slots, pass_on, begun)
                break
            except repro.Busy:
                if not left:
                    raise
                time.sleep(BUSY_PAUSE)
        if outcome != "ran":
            self._skipped(name, outcome)

    def _skipped(self, name: str, outcome: str) -> None:
        self.echo(f"[dim]{self._number()} {name}: {repro.SKIPS[outcome]}[/dim]")

    def _number(self) -> str:
        self.seen += 1
        return rf"\[{self.seen}/{len(self.needs)}]"

    def _say(self) -> None:
        now = time.monotonic()
        self.show(", ".join(f"{name} {now - since:.0f} s" for name, since in self.running.values()))


def _peaks() -> dict[str, int]:
    """Map each stage to its peak memory in bytes when it last ran here."""
    return {stage: row["peak_mb"] * 2**20 for stage, row in repro.times().items()}
