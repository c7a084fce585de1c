"""Connect to MLflow: the server or database that MLFLOW_TRACKING_URI names, or a sqlite file in var/.

Everything sent can be made again from the pipeline's files, so a dead server costs only a second call.
"""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from requests.exceptions import RequestException
from sqlalchemy.exc import SQLAlchemyError

from bonesoup.locks import exclusive

LOCAL_DATABASE = Path("var/mlflow.db")
ARTIFACTS = "mlartifacts"
# Databases that this process writes to directly, so that artifacts go to its disk.
DATABASES = {"sqlite": None, "postgresql": 5432, "mysql": 3306, "mssql": 1433}
SERVERS = {"http": 80, "https": 443}
# Consequences of a failing store: for registration, and for other commands before and after their first change.
SEND_AGAIN = "Nothing is lost: every result is in out/, and `bonesoup register` sends what is missing"
UNCHANGED = "Nothing was changed: try again"
CUT_SHORT = "The command was cut short; what it had recorded stays, and `bonesoup models` shows the champion. Try again"
# Answers of a working server that refuses a request.
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
    """Open the store and the experiment of this name, created if it is new.

    Without a server, artifacts and models (MLflow 3 puts them under the experiment) lie next to the sqlite file, so
    that every checkout that uses it finds them, and for other databases in var/mlartifacts. A server chooses their
    place.

    Args:
        patience: seconds to wait for a server's first answer.
        consequence: says in the error what is lost and how to continue.

    Raises:
        ConnectionError: the store does not answer.
        RuntimeError: the store refuses.
        ValueError: the experiment was deleted there.
    """
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    uri = tracking_uri(root)
    with nothing_lost(uri, consequence):
        _probe(uri, patience)
        with _alone_if_new(uri):
            client = MlflowClient(uri, os.environ.get("MLFLOW_REGISTRY_URI") or uri)
            with _impatient(patience):
                known = client.get_experiment_by_name(experiment)
            # Parts of MLflow read this global instead of the client they are called from.
            mlflow.set_tracking_uri(uri)
            if known is None:
                neighbour = database_file(uri) or root / LOCAL_DATABASE
                direct = _scheme(uri) in DATABASES
                location = neighbour.with_name(ARTIFACTS).absolute().as_uri() if direct else None
                return Store(client, client.create_experiment(experiment, location))
    if known.lifecycle_stage == "deleted":
        raise ValueError(
            f"the experiment {experiment} of {shown(uri)} was deleted: restore it, or change register.name"
        )
    return Store(client, known.experiment_id)


def use(root: Path) -> None:
    """Point MLflow's functions at the store of the project in `root`, without opening it."""
    mlflow.set_tracking_uri(tracking_uri(root))


@contextmanager
def nothing_lost(uri: str, consequence: str = SEND_AGAIN) -> Iterator[None]:
    """Turn any error of a failing store into one that says what to do.

    Raises:
        ConnectionError: the store does not answer, or is not MLflow.
        RuntimeError: the store answered and refused a request; quotes its reason.
    """
    try:
        yield
    # Not OSError as a whole: a full disk is no failure of the store, and keeps its message.
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
                f"{consequence} once that is resolved."
            ) from error
        raise ConnectionError(
            f"the MLflow store {shown(uri)} failed: {reason}\n"
            f"{consequence} once the store answers. Check MLFLOW_TRACKING_URI, or unset it to use {LOCAL_DATABASE}."
        ) from error


def _refused(error: Exception) -> bool:
    # A server that is not MLflow answers "unknown endpoint".
    return (
        isinstance(error, MlflowException)
        and error.get_http_status_code() in REFUSALS
        and error.error_code != "ENDPOINT_NOT_FOUND"
    )


def shown(uri: str) -> str:
    """Return the URI without user name, password and query, which may hold them, too."""
    return _without_user(uri, uri)


def _without_user(text: str, uri: str) -> str:
    """Remove a URI's user name, password and query from a text that may quote it, as MLflow's messages do."""
    parts = urlsplit(uri)
    user = parts.netloc.rpartition("@")[0]
    text = text.replace(f"{user}@", "") if user else text
    return text.replace(f"?{parts.query}", "") if parts.query else text


def database_file(uri: str) -> Path | None:
    """Return the file of a sqlite store; None for any other store."""
    return Path(uri.partition(":///")[2]) if _scheme(uri) == "sqlite" else None


def _scheme(uri: str) -> str:
    return urlsplit(uri).scheme.split("+")[0]


def _probe(uri: str, patience: float) -> None:
    """Fail within `patience` seconds if nothing listens; MLflow would retry for minutes."""
    parts = urlsplit(uri)
    if parts.hostname and (port := parts.port or (DATABASES | SERVERS).get(_scheme(uri))):
        socket.create_connection((parts.hostname, port), timeout=patience).close()
    if file := database_file(uri):
        file.parent.mkdir(parents=True, exist_ok=True)


@contextmanager
def _alone_if_new(uri: str) -> Iterator[None]:
    """Let one process alone create a sqlite store; MLflow's migrations of a new file fail if two run at once.

    Later processes take the lock too, and return it as soon as they see the file, so that none opens a half-made store.
    """
    with ExitStack() as held:
        if file := database_file(uri):
            held.enter_context(exclusive(file.with_name(f"{file.name}.lock")))
            if file.exists():
                held.close()
        yield


def variables(source: Path) -> dict[str, str]:
    """Return MLFLOW_TRACKING_URI for a checkout: that of its source, a relative database file made absolute."""
    uri = tracking_uri(source)
    if (file := database_file(uri)) and not file.is_absolute():
        uri = f"sqlite:///{source.absolute() / file}"
    return {"MLFLOW_TRACKING_URI": uri}


@contextmanager
def _impatient(patience: float) -> Iterator[None]:
    """Use short time-outs for the first request; the others use the user's settings."""
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
