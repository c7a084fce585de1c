"""Promotion by the real command against a real server that dies, and by two processes at once."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow_server import tracking
from prefect_server import free_port

pytestmark = pytest.mark.slow

BONESOUP = Path(sys.executable).with_name("bonesoup")


def start(root: Path, uri: str, *arguments: str, **more: str) -> subprocess.Popen:
    variables = os.environ | {"MLFLOW_TRACKING_URI": uri, "OMP_NUM_THREADS": "1"} | more
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([BONESOUP, *arguments], cwd=root, env=variables, **pipes)


def run(root: Path, uri: str, *arguments: str, **more: str) -> tuple[int, str, str]:
    process = start(root, uri, *arguments, **more)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def champion(uri: str) -> str | None:
    alias = MlflowClient(uri, uri).get_registered_model("league-soup").aliases.get("champion")
    return str(alias) if alias else None


def reset(uri: str) -> None:
    for model in ("league-soup", "league-merged-balanced"):
        MlflowClient(uri, uri).delete_registered_model_alias(model, "champion")


def test_two_processes_take_turns(league):
    reset(league.uri)
    both = [start(league.root, league.uri, "promote", version, "--json") for version in ("1", "2")]
    ended = [process.communicate(timeout=300) for process in both]
    decisions = sorted((json.loads(out) for out, _ in ended), key=lambda decision: decision["time"])
    first, second = decisions
    assert first["before"] is None
    assert first["verdict"] == "promoted"
    # Whoever came second was judged against the first, not against what there was when it started.
    assert second["incumbent"] == first["after"]
    expected = "promoted" if second["version"] == "league-soup/2" else "refused"
    assert second["verdict"] == expected
    assert champion(league.uri) == "2"
    reset(league.uri)


def test_a_dead_server_moves_nothing(league, tmp_path):
    """Dead before the command begins, then killed just before the move; said again, it is done."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    first, second = (league.root.with_name(f"run-{number}") for number in (1, 2))
    with tracking(port, tmp_path) as (_, server):
        for root in (first, second):
            status, _, err = run(root, url, "register")
            assert status == 0, err
        status, out, err = run(first, url, "promote", "1", "--json")
        assert status == 0, err
        assert json.loads(out)["incumbent"] == "the Rewarded Soup of league-soup/1"
        os.killpg(server.pid, signal.SIGKILL)
        server.wait(30)
        began = time.monotonic()
        status, out, err = run(first, url, "promote", "2")
        assert status == 1
        assert f"the MLflow store {url} failed" in err
        assert "Traceback" not in err
        assert time.monotonic() - began < 30

    with tracking(port, tmp_path) as (_, server):
        assert champion(url) == "1"
        promoting = start(first, url, "promote", "2", MLFLOW_HTTP_REQUEST_MAX_RETRIES="1")
        for line in promoting.stdout:
            if "champion league-soup/1 -> league-soup/2" in line:
                break
        os.killpg(server.pid, signal.SIGKILL)
        _, err = promoting.communicate(timeout=300)

    with tracking(port, tmp_path):
        if promoting.returncode:
            assert f"the MLflow store {url} failed" in err
            tags = MlflowClient(url, url).get_model_version("league-soup", "2").tags
            assert tags["decision"].startswith("unfinished")
        else:
            # The kill came after the last request.
            assert champion(url) == "2"
        status, out, err = run(first, url, "promote", "2", "--json")
        assert status == 0, err
        assert champion(url) == "2"
        status, out, err = run(first, url, "rollback", "--reason", "only a test", "--json")
        assert (status, json.loads(out)["after"]) == (0, "league-soup/1")
        status, out, err = run(first, url, "models", "--json")
        newest, oldest = json.loads(out)["models"]["league-soup"]
        assert oldest["aliases"] == ["champion"]
        assert "rolled back" in newest["decision"]
