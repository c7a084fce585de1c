"""Connect to MLflow: the server or database that MLFLOW_TRACKING_URI names, else one sqlite file in var/.

Everything sent can be made again from the pipeline's files, so a dead server costs no more than a second call.
"""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from requests.exceptions import RequestException
from sqlalchemy.exc import SQLAlchemyError

LOCAL_DATABASE = Path("var/mlflow.db")
ARTIFACTS = "mlartifacts"
# Databases that this process writes to itself, so that artifacts go to its own disk.
DATABASES = {"sqlite": None, "postgresql": 5432, "mysql": 3306, "mssql": 1433}
SERVERS = {"http": 80, "https": 443}
# What a failing store means to its caller: to registration, and to another command before and after its first step.
SEND_AGAIN = "Nothing is lost: every result is in out/, and `bonesoup register` sends what is missing"
UNCHANGED = "Nothing was changed: try again"
CUT_SHORT = "The command was cut short; what it had recorded stays, and `bonesoup models` shows the champion. Try again"
# Answers of a server that works and says no.
REFUSALS = {400, 401, 403, 404, 409}


@dataclass(frozen=True)
class Store:
    """A reachable MLflow store and the id of the experiment this project writes to."""

    client: MlflowClient
    experiment: str


def tracking_uri(root: Path) -> str:
    """Return MLFLOW_TRACKING_URI, or the address of the project's sqlite file; a flow's checkout uses its source's."""
    home = root.absolute()
    if home.parts[-3:-1] == ("var", "checkouts"):
        home = home.parents[2]
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home / LOCAL_DATABASE}"


def connect(root: Path, experiment: str, patience: float = 5, consequence: str = SEND_AGAIN) -> Store:
    """Open the store and the experiment of this name, which is created if it is new.

    A store without a server keeps artifacts and models (MLflow 3 puts them under the experiment) next to its sqlite
    file, so that every checkout that uses it finds them, else in var/mlartifacts. A server decides for itself.

    Args:
        patience: seconds to wait for a server's first answer.
        consequence: for the error: what is lost, and how to go on.

    Raises:
        ConnectionError: the store does not answer; says what to do.
        RuntimeError: the store refuses.
        ValueError: the experiment was deleted there.
    """
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    uri = tracking_uri(root)
    with nothing_lost(uri, consequence):
        _probe(uri, patience)
        client = MlflowClient(uri, os.environ.get("MLFLOW_REGISTRY_URI") or uri)
        with _impatient(patience):
            found = client.get_experiment_by_name(experiment)
        # Parts of MLflow look at this global and not at the client they are called from.
        mlflow.set_tracking_uri(uri)
        if found is None:
            neighbour = database_file(uri) or root / LOCAL_DATABASE
            direct = _scheme(uri) in DATABASES
            location = neighbour.with_name(ARTIFACTS).absolute().as_uri() if direct else None
            return Store(client, client.create_experiment(experiment, location))
    if found.lifecycle_stage == "deleted":
        raise ValueError(
            f"the experiment {experiment} of {shown(uri)} was deleted: restore it, or change register.name"
        )
    return Store(client, found.experiment_id)


@contextmanager
def nothing_lost(uri: str, consequence: str = SEND_AGAIN) -> Iterator[None]:
    """Turn whatever a failing store raises into one error that says what to do.

    Raises:
        ConnectionError: the store does not answer, or is not MLflow.
        RuntimeError: the store answered and refused a request; its reason.
    """
    try:
        yield
    # Not OSError as a whole: a full disk is no failure of the store, and keeps its own message.
    except (
        MlflowException,
        RequestException,
        SQLAlchemyError,
        ConnectionError,
        TimeoutError,
        socket.gaierror,
    ) as error:
        lines = _without_user(str(error), uri).strip().splitlines()
        reason = (lines[0] if lines else type(error).__name__)[:300]
        if _refused(error):
            raise RuntimeError(
                f"the MLflow store {shown(uri)} answered and refused a request: {reason}\n"
                f"{consequence} once its reason is gone."
            ) from error
        raise ConnectionError(
            f"the MLflow store {shown(uri)} failed: {reason}\n"
            f"{consequence} once the store answers. Check MLFLOW_TRACKING_URI, or unset it to use {LOCAL_DATABASE}."
        ) from error


def _refused(error: Exception) -> bool:
    # An unknown endpoint is how a server that is not MLflow answers.
    return (
        isinstance(error, MlflowException)
        and error.get_http_status_code() in REFUSALS
        and error.error_code != "ENDPOINT_NOT_FOUND"
    )


def shown(uri: str) -> str:
    """Return the URI without user name and password."""
    return _without_user(uri, uri)


def _without_user(text: str, uri: str) -> str:
    """Remove the user name and password of a URI from a text that may quote it, as MLflow's own messages do."""
    user = urlsplit(uri).netloc.rpartition("@")[0]
    return text.replace(f"{user}@", "") if user else text


def database_file(uri: str) -> Path | None:
    """Return the file of a sqlite store, None for any other store."""
    return Path(uri.partition(":///")[2]) if _scheme(uri) == "sqlite" else None


def _scheme(uri: str) -> str:
    return urlsplit(uri).scheme.split("+")[0]


def _probe(uri: str, patience: float) -> None:
    """Fail within `patience` seconds if nothing listens; MLflow itself would try again for minutes."""
    parts = urlsplit(uri)
    if parts.hostname and (port := parts.port or (DATABASES | SERVERS).get(_scheme(uri))):
        socket.create_connection((parts.hostname, port), timeout=patience).close()
    if file := database_file(uri):
        file.parent.mkdir(parents=True, exist_ok=True)


def variables(source: Path) -> dict[str, str]:
    """Return MLFLOW_TRACKING_URI for a checkout: that of its source, a relative database file made absolute."""
    uri = tracking_uri(source)
    if (file := database_file(uri)) and not file.is_absolute():
        uri = f"sqlite:///{source.absolute() / file}"
    return {"MLFLOW_TRACKING_URI": uri}


@contextmanager
def _impatient(patience: float) -> Iterator[None]:
    """Use short time-outs for the first request; the user's own settings hold for the others."""
    short = {
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(max(1, round(patience))),
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
