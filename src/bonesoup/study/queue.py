"""Run cells on DVC's experiment queue, in a clone of the project.

A worker runs an experiment in a workspace of its own under .dvc/tmp/exps and throws it away afterwards; what must
outlast it (scratch/, times of stages) is kept under KEPT/CELL. Workers are the ones that `dvc queue start` starts, but
children of this process: they, their experiments and the stages end with it, also by kill -9. DVC takes what a killed
worker was running for running for ever, so the queue is emptied before each use; finished stages are in the run cache.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from itertools import takewhile
from pathlib import Path

import psutil
from ruamel.yaml import YAML

from bonesoup.paths import METRICS
from bonesoup.settings import profiles
from bonesoup.study.cells import Cell, alike, identity
from bonesoup.workspace import checkout, repro
from bonesoup.workspace.repro import BOUND_DVC, RUNNING, failure, start_dvc

EXPERIMENTS = Path(".dvc/tmp/exps")
TARGET = "report"
TOOLS = "bin"
QUEUE_REFS = ("refs/exps/celery/stash", "refs/exps/celery/failed")
ERROR = re.compile(r"^(bonesoup: |ERROR: )")


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of every DVC command of the study in `folder` (var/study/NAME)."""
    tools = folder / TOOLS
    tools.mkdir(parents=True, exist_ok=True)
    # Workers start an experiment by `dvc` on the PATH: this one ends with the worker.
    shim = tools / "dvc"
    shim.write_text(f"#!{sys.executable}\n{BOUND_DVC.replace('; ', chr(10))}\n")
    shim.chmod(0o755)
    own = repro.environment()
    return own | {
        "PATH": f"{tools}{os.pathsep}{own['PATH']}",
        # Relative: each workspace runs the code of its own commit.
        "PYTHONPATH": "src",
        # DVC names the experiment when it runs the stage.
        "BONESOUP_KEPT": f"{folder}/kept/$DVC_EXP_NAME",
        "DVC_SITE_CACHE_DIR": str(folder / "site"),
    }


def put(own: Path, cell: Cell, env: dict[str, str]) -> None:
    """Queue a cell.

    Raises:
        RuntimeError: DVC refused; its message.
    """
    if reference(own, cell.name):
        checkout.git(own, "update-ref", "-d", reference(own, cell.name))
    with open(own / "params.yaml", "w") as out:
        profiles.yaml.dump(cell.document(), out)
    for key, path in checkout.borrowed_paths(Path.cwd(), own).items():
        checkout.change_settings(own, None, {key: path})
    process = start_dvc(["exp", "run", "--queue", "--name", cell.name, TARGET], own, env)
    said, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"DVC did not queue {cell.name}: {said.strip()}")


def start(own: Path, number: int, env: dict[str, str]) -> subprocess.Popen:
    """Start a worker, which takes cells until the queue has been empty for some seconds."""
    command = [own.parent / TOOLS / "dvc", "exp", "queue-worker", f"{own.name}-{number}@localhost"]
    with open(own / f".dvc/tmp/worker-{number}.log", "w") as log:
        # A session of its own: Ctrl-C reaches this process alone, which then ends the workers.
        return subprocess.Popen(command, cwd=own, env=env, stdout=log, stderr=log, start_new_session=True)


def stop(workers: list[subprocess.Popen]) -> None:
    """End workers and everything that they run."""
    for worker in workers:
        with contextlib.suppress(psutil.NoSuchProcess):
            family = [psutil.Process(worker.pid), *psutil.Process(worker.pid).children(recursive=True)]
            for process in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(family, timeout=10)
        worker.wait()


def states(own: Path) -> dict[str, tuple[str, str]]:
    """Map each queued cell to its state (Queued, Running, Failed or Success) and its revision in the queue.

    Empty where a worker is writing the record at this moment.
    """
    from dvc.repo import Repo
    from kombu.exceptions import KombuError

    try:
        with Repo(str(own)) as repo:
            return {row["name"]: (row["status"], row["rev"]) for row in repo.experiments.celery_queue.status()}
    except (KombuError, OSError, ValueError):
        return {}


def empty(own: Path) -> None:
    """Forget everything queued; finished experiments stay. No worker may be alive."""
    shutil.rmtree(own / EXPERIMENTS, ignore_errors=True)
    for ref in QUEUE_REFS:
        checkout.git(own, "update-ref", "-d", ref)


def reference(own: Path, name: str) -> str | None:
    """Return the git reference of a finished experiment."""
    found = checkout.git(own, "for-each-ref", "--format=%(refname)", f"refs/exps/*/*/{name}")
    return found.splitlines()[0] if found else None


def finished(own: Path, cell: Cell) -> tuple[dict, dict[str, dict]] | None:
    """Return a finished experiment's report.json, and what its dvc.lock records of each stage.

    None where there is no such experiment, it is of other settings or data, or its report has left the cache.
    """
    from dvc.repo import Repo

    ref = reference(own, cell.name)
    if ref is None:
        return None
    document, lock = (
        YAML(typ="safe").load(checkout.git(own, "show", f"{ref}:{name}")) for name in ("params.yaml", checkout.LOCK)
    )
    read = {entry["path"]: entry["md5"] for entry in lock["stages"]["prepare"]["deps"]}
    if not alike(identity(document, read.get(document["data"]["path"])), cell.identity()):
        return None
    with Repo(str(own)) as repo, repo.switch(checkout.git(own, "rev-parse", ref)):
        try:
            report = repo.dvcfs.read_text(str(METRICS / "report.json"))
        except FileNotFoundError:
            return None
    return json.loads(report), lock["stages"]


def output(own: Path, revision: str) -> str:
    """Return the output of the run of a queued revision."""
    path = own / EXPERIMENTS / "run" / revision / f"{revision}.out"
    return path.read_text(errors="replace") if path.is_file() else ""


def stage(said: str) -> str | None:
    """Return the stage that is running, by the output of the run."""
    found = [match[1] for line in said.splitlines() if (match := RUNNING.match(line))]
    return found[-1] if found else None


def complaint(said: str) -> str:
    """Say why a run failed, by its output."""
    lines = said.splitlines()
    first = next((number for number, line in enumerate(lines) if ERROR.match(line)), max(0, len(lines) - 5))
    # DVC adds its traceback.
    told = list(takewhile(lambda line: not line.startswith("Traceback"), lines[first:]))
    return failure(stage(said), told).rpartition("\n")[0] or "it said nothing"
