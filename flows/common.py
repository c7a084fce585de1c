"""Share what every flow uses: the project's folder, its commands with their output in the log, the webhook."""

import json
import logging
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from prefect import get_run_logger
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import FlowRun, State

from bonesoup.workspace.checkout import held, prepare, variables
from bonesoup.workspace.repro import Busy

# The clone a worker was started in: the pull step of prefect.yaml makes it the working directory.
SOURCE = Path.cwd()
WEBHOOK = "BONESOUP_WEBHOOK"
# A store, a remote or a server that does not answer now may do so in a minute; anything else fails again.
UNREACHABLE = re.compile(
    # Not where the store has answered, and refused (4xx).
    r"the MLflow store .* failed(?!.*error code 4\d\d)|Connection refused|Connection reset|Cannot connect to host|"
    r"Connect call failed|Could not connect to the endpoint|Temporary failure in name resolution|"
    r"Name or service not known|timed out",
    re.IGNORECASE,
)
PAUSES = [2, 10, 30]


def worth_retrying(task, run, state: State) -> bool:
    """Tell whether a retry can help: with a busy lock or a network, never with a failed gate or a wrong setting."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, Busy) or bool(UNREACHABLE.search(str(error)))


# For a task that needs a lock, a store or a remote. DVC alone decides what is up to date, so Prefect caches nothing.
RETRIED = {
    "retries": len(PAUSES),
    "retry_delay_seconds": PAUSES,
    "retry_condition_fn": worth_retrying,
    "cache_policy": NO_CACHE,
    "persist_result": False,
}


def store_variables() -> dict[str, str]:
    """Return the MLflow store of the source, for a command in a checkout."""
    # mlflow takes seconds to import.
    from bonesoup.registry import store

    return store.variables(SOURCE)


def command(clone: Path, *arguments: str) -> tuple[int, str, list[str]]:
    """Run a bonesoup command in a checkout or clone, with its code: (status, standard output, lines of standard error).

    Standard error goes to the log as it comes.
    """
    logger, lines = get_run_logger(), []
    # A file: a pipe that nobody reads meanwhile would stop the command once it is full.
    with tempfile.TemporaryFile("w+") as answer:
        process = subprocess.Popen(
            [sys.executable, "-m", "bonesoup.cli", *arguments],
            cwd=clone,
            env=variables(clone) | store_variables(),
            stdout=answer,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        for line in process.stderr:
            lines.append(line.rstrip("\n"))
            logger.info(lines[-1])
        status = process.wait()
        answer.seek(0)
        return status, answer.read(), lines


def ask(clone: Path, name: str, *options: str, of: list[str]) -> Any:
    """Return the answer of `bonesoup NAME OPTIONS --json -- OF`.

    A command that answers but ends with status 1 (a refusal) is no failure.

    Raises:
        RuntimeError: it failed; its message.
    """
    _, answer, lines = command(clone, name, *options, "--json", "--", *of)
    if not answer.strip():
        raise RuntimeError("\n".join(lines[-20:]).removeprefix("bonesoup: ") or f"bonesoup {name} failed")
    return json.loads(answer)


@contextmanager
def committed(name: str) -> Iterator[Path]:
    """Yield a checkout of the last commit for a command: uncommitted files, rules included, do not count."""
    with held(SOURCE, name, wait=3600) as clone:
        prepare(SOURCE, clone, "HEAD")
        yield clone


def notify(flow, run: FlowRun, state: State) -> None:
    """Tell the webhook in BONESOUP_WEBHOOK, if it is set, that a run failed."""
    if not (url := os.environ.get(WEBHOOK)):
        return
    body = {"flow": flow.name, "run": run.name, "id": str(run.id), "state": state.name, "message": state.message}
    try:
        httpx.post(url, json=body, timeout=10).raise_for_status()
    except httpx.HTTPError as error:
        # Not the error itself: it names the address, which holds a token.
        logging.getLogger("prefect.flow_runs").warning("the webhook was not told: %s", type(error).__name__)
