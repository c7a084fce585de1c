"""Run cells on DVC's experiment queue, in a clone of the project.

A worker runs an experiment in a separate workspace under .dvc/tmp/exps and deletes it afterwards; what must outlast it
(scratch/, times of stages) is kept under KEPT/CELL. Workers are those of `dvc queue start`, but as children of this
process: they, their experiments and the stages end with it, even by kill -9. DVC believes that an experiment of a
killed worker still runs, so the queue is emptied before each use; finished stages are in the run cache.
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
    # Workers start experiments through the `dvc` on the PATH; this one ends with the worker.
    shim = tools / "dvc"
    shim.write_text(f"#!{sys.executable}\n{BOUND_DVC.replace('; ', chr(10))}\n")
    shim.chmod(0o755)
    variables = repro.environment()
    return variables | {
        "PATH": f"{tools}{os.pathsep}{variables['PATH']}",
        # Relative, so that each workspace runs the code of its commit.
        "PYTHONPATH": "src",
        # DVC names the experiment when it runs the stage.
        "BONESOUP_KEPT": f"{folder}/kept/$DVC_EXP_NAME",
        "DVC_SITE_CACHE_DIR": str(folder / "site"),
    }


def put(clone: Path, cell: Cell, env: dict[str, str]) -> None:
    """Queue a cell.

    Raises:
        RuntimeError: DVC refused; its message.
    """
    if reference(clone, cell.name):
        checkout.git(clone, "update-ref", "-d", reference(clone, cell.name))
    with open(clone / "params.yaml", "w") as out:
        profiles.yaml.dump(cell.document(), out)
    for key, path in checkout.borrowed_paths(Path.cwd(), clone).items():
        checkout.change_settings(clone, None, {key: path})
    process = start_dvc(["exp", "run", "--queue", "--name", cell.name, TARGET], clone, env)
    output_text, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"DVC did not queue {cell.name}: {output_text.strip()}")


def start(clone: Path, number: int, env: dict[str, str]) -> subprocess.Popen:
    """Start a worker, which takes cells until the queue has been empty for some seconds."""
    command = [clone.parent / TOOLS / "dvc", "exp", "queue-worker", f"{clone.name}-{number}@localhost"]
    with open(clone / f".dvc/tmp/worker-{number}.log", "w") as log:
        # A new session: Ctrl-C reaches this process alone, which then ends the workers.
        return subprocess.Popen(command, cwd=clone, env=env, stdout=log, stderr=log, start_new_session=True)


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


def states(clone: Path) -> dict[str, tuple[str, str]]:
    """Map each queued cell to its state (Queued, Running, Failed or Success) and its revision in the queue.

    Empty where a worker is writing the record at this moment.
    """
    from dvc.repo import Repo
    from kombu.exceptions import KombuError

    try:
        with Repo(str(clone)) as repo:
            return {row["name"]: (row["status"], row["rev"]) for row in repo.experiments.celery_queue.status()}
    except (KombuError, OSError, ValueError):
        return {}


def empty(clone: Path) -> None:
    """Forget everything queued; finished experiments stay. No worker may be alive."""
    shutil.rmtree(clone / EXPERIMENTS, ignore_errors=True)
    for ref in QUEUE_REFS:
        checkout.git(clone, "update-ref", "-d", ref)


def reference(clone: Path, name: str) -> str | None:
    """Return the git reference of a finished experiment."""
    refs = checkout.git(clone, "for-each-ref", "--format=%(refname)", f"refs/exps/*/*/{name}")
    return refs.splitlines()[0] if refs else None


def finished(clone: Path, cell: Cell) -> tuple[dict, dict[str, dict]] | None:
    """Return a finished experiment's report.json, and what its dvc.lock records of each stage.

    None where there is no such experiment, it is of other settings or data, or its report has left the cache.
    """
    from dvc.repo import Repo

    ref = reference(clone, cell.name)
    if ref is None:
        return None
    document, lock = (
        YAML(typ="safe").load(checkout.git(clone, "show", f"{ref}:{name}")) for name in ("params.yaml", checkout.LOCK)
    )
    read = {entry["path"]: entry["md5"] for entry in lock["stages"]["prepare"]["deps"]}
    if not alike(identity(document, read.get(document["data"]["path"])), cell.identity()):
        return None
    with Repo(str(clone)) as repo, repo.switch(checkout.git(clone, "rev-parse", ref)):
        try:
            report = repo.dvcfs.read_text(str(METRICS / "report.json"))
        except FileNotFoundError:
            return None
    return json.loads(report), lock["stages"]


def output(clone: Path, revision: str) -> str:
    """Return the output of the run of a queued revision."""
    path = clone / EXPERIMENTS / "run" / revision / f"{revision}.out"
    return path.read_text(errors="replace") if path.is_file() else ""


def stage(output_text: str) -> str | None:
    """Return the stage that is running, by the output of the run."""
    stages = [match[1] for line in output_text.splitlines() if (match := RUNNING.match(line))]
    return stages[-1] if stages else None


def complaint(output_text: str) -> str:
    """Condense the output of a failed run into the reason."""
    lines = output_text.splitlines()
    first = next((number for number, line in enumerate(lines) if ERROR.match(line)), max(0, len(lines) - 5))
    # DVC's traceback follows.
    kept = list(takewhile(lambda line: not line.startswith("Traceback"), lines[first:]))
    return failure(stage(output_text), kept).rpartition("\n")[0] or "it printed nothing"
