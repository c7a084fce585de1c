"""Where MLflow keeps things: any server or database by MLFLOW_TRACKING_URI, else one sqlite file in var/.

Everything sent can be made again from the pipeline's files, so a dead server costs nothing but a second call.
"""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from requests.exceptions import RequestException
from sqlalchemy.exc import SQLAlchemyError

LOCAL_DATABASE = Path("var/mlflow.db")
LOCAL_ARTIFACTS = Path("var/mlartifacts")
PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}


@dataclass(frozen=True)
class Store:
    """A reachable MLflow store and the experiment this project writes to."""

    client: MlflowClient
    experiment: str


def tracking_uri(root: Path) -> str:
    """MLFLOW_TRACKING_URI, or the project's own sqlite file."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(root / LOCAL_DATABASE).absolute()}"


def connect(root: Path, experiment: str, patience: float = 5) -> Store:
    """Open the store and the experiment of this name, made when new.

    The default store keeps artifacts (models too: MLflow 3 puts them under the experiment) in var/mlartifacts;
    any other decides for itself.

    Args:
        patience: seconds to wait for a server's first answer.

    Raises:
        ConnectionError: the store does not answer; what to do about it.
    """
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    uri = tracking_uri(root)
    with nothing_lost(uri):
        _probe(uri, patience)
        mlflow.set_tracking_uri(uri)
        # A registry set apart (MLFLOW_REGISTRY_URI) stays where the user put it.
        client = MlflowClient(uri, os.environ.get("MLFLOW_REGISTRY_URI") or uri)
        with _impatient(patience):
            found = client.get_experiment_by_name(experiment)
        if found is None:
            location = (
                None if "MLFLOW_TRACKING_URI" in os.environ else (root / LOCAL_ARTIFACTS).absolute().as_uri()
            )
            return Store(client, client.create_experiment(experiment, location))
        if found.lifecycle_stage == "deleted":
            raise ValueError(
                f"the experiment {experiment} of {shown(uri)} was deleted: restore it, or change register.name"
            )
        return Store(client, found.experiment_id)


@contextmanager
def nothing_lost(uri: str) -> Iterator[None]:
    """Turn what a failing store raises into one ConnectionError that says what to do."""
    try:
        yield
    except (
        MlflowException,
        RequestException,
        SQLAlchemyError,
        ConnectionError,
        TimeoutError,
        socket.gaierror,
    ) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ConnectionError(
            f"the MLflow store {shown(uri)} failed ({reason[0][:300]}). Nothing is lost: every result is in out/, and "
            "`bonesoup register` sends what is missing once the store answers. Check MLFLOW_TRACKING_URI, or unset it "
            f"to use {LOCAL_DATABASE}"
        ) from error


def shown(uri: str) -> str:
    """The URI without user name and password."""
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _probe(uri: str, patience: float) -> None:
    """Fail within `patience` where nothing listens; MLflow itself retries for minutes."""
    parts = urlsplit(uri)
    if parts.hostname:
        port = parts.port or PORTS.get(parts.scheme.split("+")[0])
        if port:
            socket.create_connection((parts.hostname, port), timeout=patience).close()
    elif parts.scheme == "sqlite":
        folder = Path(uri.removeprefix("sqlite:///")).parent
        folder.mkdir(parents=True, exist_ok=True)


@contextmanager
def _impatient(patience: float) -> Iterator[None]:
    """Short time-outs for the first request; the user's own settings for what follows."""
    short = {
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(int(max(patience, 1))),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    }
    before = {name: os.environ.get(name) for name in short}
    os.environ.update(short)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
