import socket
import subprocess
import sys
import time

import mlflow
import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    ENDPOINT_NOT_FOUND,
    INTERNAL_ERROR,
    INVALID_PARAMETER_VALUE,
    TEMPORARILY_UNAVAILABLE,
)
from projects import ROOT
from typer.testing import CliRunner

from bonesoup.cli.main import app
from bonesoup.registry.store import CUT_SHORT, connect, nothing_lost, shown, tracking_uri


@pytest.fixture
def no_server(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_the_default_is_a_file_of_the_project(tmp_path, no_server):
    assert tracking_uri(tmp_path) == f"sqlite:///{tmp_path}/var/mlflow.db"


def test_artifacts_lie_beside_the_database_whatever_the_checkout(tmp_path, monkeypatch):
    before = mlflow.get_tracking_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/shared/mlflow.db")
    store = connect(tmp_path / "checkout", "bonesoup")
    # `connect` sets it for the whole process.
    mlflow.set_tracking_uri(before)
    location = store.client.get_experiment(store.experiment).artifact_location
    assert location == (tmp_path / "shared/mlartifacts").as_uri()


OPEN = """
import sys
from pathlib import Path
from bonesoup.registry.store import connect
print("ready", flush=True)
sys.stdin.read()
print(connect(Path("."), "bonesoup").experiment)
"""


@pytest.mark.slow
def test_processes_that_start_at_once_make_one_store(tmp_path, no_server):
    command = [sys.executable, "-c", OPEN]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, cwd=tmp_path, **pipes) for _ in range(2)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.close()
    experiments = {process.stdout.read().splitlines()[-1] for process in processes}
    assert [process.wait() for process in processes] == [0, 0]
    assert len(experiments) == 1


def test_a_refused_connection_is_one_message_at_once(tmp_path, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:secret@127.0.0.1:{port}")
    start = time.monotonic()
    with pytest.raises(ConnectionError, match="Nothing is lost.*`bonesoup register`") as error:
        connect(tmp_path, "bonesoup")
    assert time.monotonic() - start < 5
    assert f"127.0.0.1:{port}" in str(error.value)
    assert "secret" not in str(error.value)


def test_a_server_that_accepts_and_never_answers_is_given_up(tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        start = time.monotonic()
        with pytest.raises(ConnectionError, match="Nothing is lost"):
            connect(tmp_path, "bonesoup", patience=1)
        assert time.monotonic() - start < 5


def test_a_command_that_sends_nothing_does_not_advise_to_register(tmp_path, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    (tmp_path / "mlflow").mkdir()
    (tmp_path / "mlflow/promotion.yaml").write_text((ROOT / "mlflow/promotion.yaml").read_text())
    for command in ("models", "promote", "demote", "rollback", "evaluate"):
        error = CliRunner().invoke(app, [command]).exception
        assert isinstance(error, ConnectionError), command
        assert f"the MLflow store http://127.0.0.1:{port} failed" in str(error)
        assert "Nothing was changed: try again once the store answers." in str(error)
        assert "bonesoup register" not in str(error)


def test_a_command_that_is_cut_short_says_so():
    text = "the MLflow store http://host failed: gone\nThe command was cut short"
    with pytest.raises(ConnectionError, match=text), nothing_lost("http://host", CUT_SHORT):
        raise ConnectionError("gone")


def test_a_refusal_is_not_blamed_on_the_connection():
    refusal = MlflowException("The run 1a must be in the 'active' state", INVALID_PARAMETER_VALUE)
    with (
        pytest.raises(RuntimeError, match="answered and refused a request: The run 1a") as error,
        nothing_lost("http://host", CUT_SHORT),
    ):
        raise refusal
    assert "MLFLOW_TRACKING_URI" not in str(error.value)
    assert "once the store answers" not in str(error.value)


@pytest.mark.parametrize("code", [ENDPOINT_NOT_FOUND, INTERNAL_ERROR, TEMPORARILY_UNAVAILABLE])
def test_a_server_that_fails_or_is_not_mlflow_is_a_matter_of_the_connection(code):
    with pytest.raises(ConnectionError, match="Check MLFLOW_TRACKING_URI"), nothing_lost("http://host"):
        raise MlflowException("no", code)


def test_a_full_disk_is_not_blamed_on_the_store():
    with pytest.raises(OSError, match="No space left") as error, nothing_lost("http://host"):
        raise OSError(28, "No space left on device")
    assert not isinstance(error.value, ConnectionError)


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("https://me:secret@host:5000/x", "https://host:5000/x"),
        ("postgresql+psycopg2://me:secret@db/mlflow", "postgresql+psycopg2://db/mlflow"),
        ("postgresql://db/mlflow?user=me&password=secret", "postgresql://db/mlflow"),
        ("sqlite:////tmp/mlflow.db", "sqlite:////tmp/mlflow.db"),
    ],
)
def test_passwords_are_not_shown(uri, expected):
    assert shown(uri) == expected
