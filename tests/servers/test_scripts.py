"""`make prefect`, `make worker` and `make deploy` in a clone, with nothing set but the port."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest
from composed import listening
from prefect_server import POOL, free_port, stop, until
from projects import Project

pytestmark = pytest.mark.slow
AUTOMATIONS = ["a new champion is evaluated", "a run without heartbeat is Crashed"]


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).is_success
    except httpx.HTTPError:
        return False


@dataclass(frozen=True)
class Servers:
    api: str
    ports: dict[str, str]
    project: Project
    start: Callable[..., psutil.Process]

    def schedules(self) -> dict[str, dict]:
        """Map each deployment to its id, the id of its schedule, and True if that is on."""
        deployments = httpx.post(f"{self.api}/deployments/filter", json={}).json()
        assert all(deployment["work_pool_name"] == POOL for deployment in deployments)
        return {d["name"]: {"deployment": d["id"]} | s for d in deployments for s in d["schedules"]}

    def automations(self) -> list[str]:
        listed = httpx.post(f"{self.api}/automations/filter", json={}).json()
        return sorted(automation["name"] for automation in listed)

    def on(self) -> set[str]:
        return {name for name, schedule in self.schedules().items() if schedule["active"]}


@pytest.fixture
def servers(untouched, tmp_path) -> Iterator[Servers]:
    port, health = free_port(), free_port()
    ports = {"PREFECT_SERVER_API_PORT": str(port), "PREFECT_WORKER_WEBSERVER_PORT": str(health)}
    started = []

    def start(script: str, *arguments: str, until_answers: str, **more: str) -> psutil.Process:
        log = tmp_path / f"{Path(script).name}.log"
        started.append(untouched.start(f"./{script}", *arguments, log=log, **ports, **more))
        until(lambda: answers(until_answers), f"{script} answers")
        return psutil.Process(started[-1].pid)

    yield Servers(f"http://127.0.0.1:{port}/api", ports, untouched, start)
    for process in reversed(started):
        stop(process)


def test_server_and_worker_serve_this_clone_on_loopback(servers):
    server = servers.start("flows/server.sh", until_answers=f"{servers.api}/health")
    assert listening(server) == {"127.0.0.1"}
    assert "<html" in httpx.get(servers.api.removesuffix("api"), follow_redirects=True).text
    assert (servers.project.folder / "var/prefect/prefect.db").is_file()

    def work() -> None:
        at = f"http://127.0.0.1:{servers.ports['PREFECT_WORKER_WEBSERVER_PORT']}/health"
        variables = {"PREFECT_API_URL": servers.api, "until_answers": at}
        worker = servers.start("flows/worker.sh", "--with-healthcheck", **variables)
        assert listening(worker) == {"127.0.0.1"}
        worker.terminate()
        worker.wait(30)

    work()
    assert httpx.get(f"{servers.api}/work_pools/{POOL}").json()["type"] == "process"
    assert servers.on() == {"hourly"}, "a schedule that would burn a GPU is on"
    assert servers.automations() == AUTOMATIONS

    nightly = servers.schedules()["nightly"]
    at = f"{servers.api}/deployments/{nightly['deployment']}/schedules/{nightly['id']}"
    httpx.patch(at, json={"active": True}).raise_for_status()
    work()
    assert servers.on() == {"hourly", "nightly"}, "a restart of the worker turned a schedule off"

    done = servers.project.run("./flows/deploy.sh", PREFECT_API_URL=servers.api)
    assert done.status == 0, done.output
    assert servers.on() == {"hourly"}
    assert servers.automations() == AUTOMATIONS
