"""A real Prefect server and real workers on loopback, driven over the server's API."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import pytest
from projects import TOOLS, Project

POOL = "bonesoup"
ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def until(happened: Callable[[], object], what: str, seconds: float = 120):
    """Wait until a condition holds; return its value."""
    deadline = time.monotonic() + seconds
    while not (value := happened()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(0.2)
    return value


def stop(process: subprocess.Popen) -> None:
    """End a process and all it started."""
    with suppress(psutil.Error):
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        for number in (signal.SIGTERM, signal.SIGKILL):
            for member in family:
                with suppress(psutil.Error):
                    member.send_signal(number)
            psutil.wait_procs(family, timeout=5)
    process.wait(10)


def kill_tree(process: subprocess.Popen) -> None:
    """Send SIGKILL to a worker and its flow runs, as when a machine loses power; not to dvc and the stages."""
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    engines = [p for p in family if "prefect" in " ".join(p.cmdline())]
    for member in engines:
        member.kill()
    process.wait(10)


@dataclass
class Prefect:
    """Run a Prefect server with its own database."""

    home: Path
    port: int
    process: subprocess.Popen | None = None
    workers: list[subprocess.Popen] = field(default_factory=list)

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.port}/api"

    def variables(self) -> dict[str, str]:
        return {
            "PREFECT_HOME": str(self.home),
            "PREFECT_API_URL": self.api,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "true",
            "PREFECT_WORKER_QUERY_SECONDS": "1",
        }

    def start(self) -> None:
        variables = os.environ | self.variables()
        del variables["PREFECT_API_URL"]
        command = [TOOLS / "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(self.port), "--no-ui"]
        with open(self.home / "server.log", "a") as log:
            self.process = subprocess.Popen(command, env=variables, stdout=log, stderr=log, start_new_session=True)
        until(self.healthy, "the Prefect server answers")

    def healthy(self) -> bool:
        with suppress(httpx.HTTPError):
            return httpx.get(f"{self.api}/health", timeout=2).status_code == 200
        return False

    def ask(self, method: str, path: str, body=None):
        """Call the API; ask a busy database (503) again, as Prefect's own client does."""
        for _ in range(20):
            answer = httpx.request(method, f"{self.api}/{path}", json=body, timeout=30)
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                break
            time.sleep(0.5)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def post(self, path: str, **body):
        return self.ask("POST", path, body)

    def get(self, path: str):
        return self.ask("GET", path)

    def deploy(self, project: Project) -> None:
        with suppress(httpx.HTTPStatusError):
            self.post("work_pools/", name=POOL, type="process")
        done = project.run("prefect", "--no-prompt", "deploy", "--all", **self.variables())
        assert done.status == 0, done.output

    def work(self, project: Project, log: Path, **more: str) -> subprocess.Popen:
        """Start a worker in a clone."""
        variables = self.variables() | {"BONESOUP_HOME": str(project.folder)} | more
        worker = project.start("prefect", "worker", "start", "--pool", POOL, "--type", "process", log=log, **variables)
        self.workers.append(worker)
        return worker

    def launch(self, deployment: str, **parameters) -> str:
        """Start a run of a deployment; return its id."""
        described = self.get(f"deployments/name/{deployment}")
        return self.post(f"deployments/{described['id']}/create_flow_run", parameters=parameters)["id"]

    def ended(self, run: str, seconds: float = 300) -> dict:
        """Wait for a run to end; return its state."""
        return until(lambda: (s := self.state(run)) and s["type"] in ENDED and s, f"run {run} ends", seconds)

    def state(self, run: str) -> dict:
        with suppress(httpx.HTTPError):
            return self.get(f"flow_runs/{run}")["state"] or {}
        return {}

    def tasks(self, run: str) -> dict[str, dict]:
        """Return the task runs of a flow run by name, with state name and run count."""
        listed = self.post("task_runs/filter", flow_runs={"id": {"any_": [run]}}, limit=200)
        return {task["name"]: task for task in listed}

    def log(self, run: str) -> str:
        listed = self.post("logs/filter", logs={"flow_run_id": {"any_": [run]}}, limit=200, sort="TIMESTAMP_ASC")
        return "\n".join(line["message"] for line in listed)

    def artifacts(self, run: str) -> dict[str, dict]:
        listed = self.post("artifacts/filter", flow_runs={"id": {"any_": [run]}}, limit=200)
        return {artifact["key"]: artifact for artifact in listed}

    def schedule(self, deployment: str, seconds: int) -> str:
        """Run a deployment (by id) every so many seconds; return the schedule's id."""
        body = [{"schedule": {"interval": seconds}, "active": True}]
        return self.ask("POST", f"deployments/{deployment}/schedules", body)[0]["id"]

    def unschedule(self, deployment: str, schedule: str) -> None:
        self.ask("DELETE", f"deployments/{deployment}/schedules/{schedule}")

    def runs(self, deployment: str, state: str) -> list[dict]:
        """List runs of a deployment (by id) in a state of this name."""
        wanted = {"state": {"name": {"any_": [state]}}}
        return self.post("flow_runs/filter", deployments={"id": {"any_": [deployment]}}, flow_runs=wanted, limit=50)

    def stop(self) -> None:
        for worker in self.workers:
            stop(worker)
        stop(self.process)


@pytest.fixture(scope="module")
def prefect(tmp_path_factory) -> Iterator[Prefect]:
    server = Prefect(tmp_path_factory.mktemp("prefect"), free_port())
    server.start()
    yield server
    server.stop()


@pytest.fixture
def worker(prefect, project, tmp_path) -> Iterator[subprocess.Popen]:
    """Start a worker in a copy of the finished pipeline, with the deployments of its prefect.yaml."""
    prefect.deploy(project)
    running = prefect.work(project, tmp_path / "worker.log")
    yield running
    stop(running)
