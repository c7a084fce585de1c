"""A clone of the project with tiny settings, run once to its end; each test breaks a copy of it."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from bonesoup.settings.profiles import yaml

ROOT = Path(__file__).parents[1]
TOOLS = Path(sys.executable).parent


@dataclass(frozen=True)
class Repro:
    """Tell what a command did: the stages that ran, those whose outs came from the cache, all it printed."""

    status: int
    output: str

    @property
    def ran(self) -> list[str]:
        return re.findall(r"^Running stage '(.+)':$", self.output, re.MULTILINE)

    @property
    def restored(self) -> list[str]:
        return re.findall(r"^Stage '(.+)' is cached", self.output, re.MULTILINE)


@dataclass(frozen=True)
class Project:
    """Work in a clone, whose source, not the installed one, is what runs."""

    folder: Path

    def environment(self, **more: str) -> dict[str, str]:
        # Without MLFLOW_TRACKING_URI runs go to the clone's own var/.
        inherited = {
            k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "BONESOUP_", "DVC_", "PREFECT_"))
        }
        variables = {
            "PYTHONPATH": str(self.folder / "src"),
            "PATH": f"{TOOLS}{os.pathsep}{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
            "DVC_NO_ANALYTICS": "1",
            "GIT_AUTHOR_NAME": "test",
            "GIT_AUTHOR_EMAIL": "test@localhost",
            "GIT_COMMITTER_NAME": "test",
            "GIT_COMMITTER_EMAIL": "test@localhost",
            "COLUMNS": "120",
        }
        return inherited | variables | more

    def start(self, *command: str, log: Path, **more: str) -> subprocess.Popen:
        """Start a command in its own process group, as a terminal would."""
        with open(log, "w") as out:
            return subprocess.Popen(
                command,
                cwd=self.folder,
                env=self.environment(**more),
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # A shell's background job ignores Ctrl-C, and so would all that its tests start.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )

    def run(self, *command: str, **more: str) -> Repro:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment(**more),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=600,
        )
        return Repro(done.returncode, done.stdout)

    def repro(self, *targets: str, **more: str) -> Repro:
        return self.run("dvc", "repro", *targets, **more)

    def set(self, **changes) -> None:
        """Change params.yaml; a double underscore stands for a dot: set(basis__beta=0.8)."""
        path = self.folder / "params.yaml"
        document = yaml.load(path)
        for name, value in changes.items():
            *outer, last = name.split("__")
            section = document
            for key in outer:
                section = section[key]
            section[last] = value
        with open(path, "w") as out:
            yaml.dump(document, out)

    def files(self, folder: str) -> dict[str, bytes]:
        """Map relative names to the content of every file under a folder; empty when there is none."""
        top = self.folder / folder
        return {str(p.relative_to(top)): p.read_bytes() for p in sorted(top.rglob("*")) if p.is_file()}

    def copy(self, folder: Path) -> "Project":
        # The MLflow store names artifacts by absolute path, so it stays behind.
        shutil.copytree(self.folder, folder, symlinks=True, ignore=shutil.ignore_patterns("var"))
        return Project(folder)


# Every stage works with these, and the whole takes about a minute and a half.
TINY = {
    "data__sizes": {"sft": 600, "pairs": 600, "prompts": 256},
    "gates__reward": {"min_accuracy": 0.1, "on_failure": "warn"},
    "model__hidden": 32,
    "sft__steps": 20,
    **{f"rewards__{name}__steps": 10 for name in ("helpful", "harmless")},
    **{f"rewards__{name}__batch": 32 for name in ("helpful", "harmless")},
    "normalise__samples": 64,
    "rl__steps": 6,
    "rl__updates": None,
    "rl__prompts": 4,
    "rl__generations": 4,
    "rl__micro_batch": 16,
    "rl__checkpoint_every": 2,
    "evaluation__samples": 32,
    "evaluation__parts": 2,
    "evaluation__bootstrap": 50,
    "report__prompts": 2,
    "methods": ["sft", "rewarded", "bone", "oracle"],
    "policies": {
        "specialists": {"slots": ["specialist-1", "specialist-2"]},
        "backbones": {"slots": ["backbone-1", "backbone-2"]},
        "oracles": {"slots": ["oracle-1", "oracle-2", "oracle-3"]},
    },
    "register__method": "bone",
}


@pytest.fixture(scope="session")
def fresh(tmp_path_factory) -> Project:
    """Clone the last commit with tiny settings, nothing run."""
    folder = tmp_path_factory.mktemp("fresh") / "project"
    subprocess.run(["git", "clone", "--quiet", ROOT, folder], check=True)
    (folder / "dvc.lock").unlink(missing_ok=True)
    project = Project(folder)
    assert project.run("bonesoup", "profile", "quick").status == 0
    project.set(**TINY)
    project.run("git", "commit", "--quiet", "--all", "--message", "tiny settings")
    return project


@dataclass(frozen=True)
class Finished:
    project: Project
    result: Repro


@pytest.fixture(scope="session")
def finished(fresh, tmp_path_factory) -> Finished:
    """Run the whole pipeline, once, by `bonesoup run`."""
    project = fresh.copy(tmp_path_factory.mktemp("finished") / "project")
    result = project.run("bonesoup", "run")
    assert result.status == 0, result.output
    return Finished(project, result)


@pytest.fixture
def project(finished, tmp_path) -> Project:
    """Copy the finished pipeline, cache included, for a test to break."""
    return finished.project.copy(tmp_path / "project")


@pytest.fixture
def untouched(fresh, tmp_path) -> Project:
    """Copy the clone in which nothing has run."""
    return fresh.copy(tmp_path / "project")


def wait_for(happened: Callable[[], bool], process: subprocess.Popen, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert process.poll() is None, f"the command ended with {process.returncode} before what was waited for"
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture
def interrupt():
    """Return interrupt(project, command, happened, how, log): start, kill once something happened, wait for the end.

    `how`: dvc or stage (SIGKILL to that process alone), or group (SIGINT to the whole process group, as Ctrl-C does).
    """

    def run(project: Project, command: list[str], happened: Callable[[], bool], how: str, log: Path) -> str:
        process = project.start(*command, log=log)
        wait_for(happened, process)
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        stages = [p for p in family if "stage" in p.cmdline()]
        assert len(stages) == 1, [p.cmdline() for p in family]
        if how == "group":
            os.killpg(process.pid, signal.SIGINT)
        else:
            victim = process.pid if how == "dvc" else stages[0].pid
            os.kill(victim, signal.SIGKILL)
        process.wait(60)
        deadline = time.monotonic() + 5
        # DVC takes the lock of a process that init has not yet reaped for one that is held.
        while any(p.is_running() for p in family) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not alive(family), "a trainer outlived the command that started it"
        return log.read_text()

    return run
