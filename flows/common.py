"""What every flow uses: where the project is, commands of the project with their output in the log, the webhook."""

import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
from prefect import get_run_logger
from prefect.client.schemas.objects import FlowRun, State

from bonesoup.checkout import store_of, variables
from bonesoup.pipeline import Busy

# The clone a worker was started in: the pull step of prefect.yaml makes it the working directory.
SOURCE = Path.cwd()
WEBHOOK = "BONESOUP_WEBHOOK"
# A store, a remote or a server that does not answer now may do so in a minute; anything else fails again.
UNREACHABLE = re.compile(
    r"the MLflow store .* failed|Connection refused|Connection reset|Could not connect to the endpoint|"
    r"Temporary failure in name resolution|Name or service not known|timed out",
    re.IGNORECASE,
)
PAUSES = [2, 10, 30]


def worth_retrying(task, run, state: State) -> bool:
    """Whether a retry can help: a busy lock or a network, never a failed gate or a bad setting."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, Busy) or bool(UNREACHABLE.search(str(error)))


def bonesoup(own: Path, *arguments: str) -> Any:
    """A bonesoup command in a checkout or clone, by its own code, with --json; its answer.

    What it says meanwhile goes to the log. A command that answers but ends with status 1 (a refusal) is no failure.

    Raises:
        RuntimeError: it failed; what it said.
    """
    logger = get_run_logger()
    process = subprocess.Popen(
        [sys.executable, "-m", "bonesoup.cli", *arguments, "--json"],
        cwd=own,
        env=variables(own) | store_of(SOURCE),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    said = []
    for line in process.stderr:
        said.append(line.rstrip("\n"))
        logger.info(said[-1])
    answer = process.stdout.read()
    process.wait()
    if not answer.strip():
        raise RuntimeError("\n".join(said[-20:]).removeprefix("bonesoup: ") or f"bonesoup {arguments[0]} failed")
    return json.loads(answer)


def notify(flow, run: FlowRun, state: State) -> None:
    """Tell the webhook of BONESOUP_WEBHOOK, where one is set, that a run failed."""
    if not (url := os.environ.get(WEBHOOK)):
        return
    body = {"flow": flow.name, "run": run.name, "id": str(run.id), "state": state.name, "message": state.message}
    try:
        httpx.post(url, json=body, timeout=10).raise_for_status()
    except httpx.HTTPError as error:
        # Not the error itself: it names the address, which holds a token.
        logging.getLogger("prefect.flow_runs").warning("the webhook was not told: %s", type(error).__name__)
