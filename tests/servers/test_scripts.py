"""What `make prefect` and `make worker` start, in a clone, with nothing set but the port."""

import os
from pathlib import Path

import httpx
import psutil
import pytest
from composed import listening
from prefect_server import POOL, free_port, stop, until

pytestmark = pytest.mark.slow


def answer(url: str) -> httpx.Response | None:
    try:
        return httpx.get(url, timeout=5)
    except httpx.HTTPError:
        return None


def test_server_and_worker_serve_this_clone_on_loopback(untouched, tmp_path):
    port, health = free_port(), free_port()
    api = f"http://127.0.0.1:{port}/api"
    own = {"PREFECT_SERVER_API_PORT": str(port), "PREFECT_WORKER_WEBSERVER_PORT": str(health)}
    at = f"http://127.0.0.1:{health}/health"
    foreign = {name: "" for name in os.environ if name.startswith("PREFECT_")}
    started = []

    def start(script: str, *arguments: str, **more: str) -> psutil.Process:
        log = tmp_path / f"{Path(script).name}.log"
        process = untouched.start(f"./{script}", *arguments, log=log, **foreign, **own, **more)
        started.append(process)
        return psutil.Process(process.pid)

    try:
        server = start("flows/server.sh")
        until(lambda: answer(f"{api}/health"), "the server answers")
        assert listening(server) == {"127.0.0.1"}
        assert "<html" in httpx.get(f"http://127.0.0.1:{port}/", follow_redirects=True).text
        assert (untouched.folder / "var/prefect/prefect.db").is_file()
        for _ in range(2):  # the second finds the pool there
            worker = start("flows/worker.sh", "--with-healthcheck", PREFECT_API_URL=api)
            until(lambda: (found := answer(at)) and found.is_success, "the worker lives")
            assert listening(worker) == {"127.0.0.1"}
            stop(started.pop())
        assert httpx.get(f"{api}/work_pools/{POOL}").json()["type"] == "process"
        deployments = httpx.post(f"{api}/deployments/filter", json={}).json()
        active = {d["name"] for d in deployments if any(schedule["active"] for schedule in d["schedules"])}
        assert active == {"hourly"}, "a schedule that would burn a GPU is on"
        assert len(deployments) >= 5
        assert all(deployment["work_pool_name"] == POOL for deployment in deployments)
    finally:
        for process in reversed(started):
            stop(process)
