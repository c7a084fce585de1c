"""Run a DVC stage as a Prefect task, here or by a worker on another machine, whose flow this is too."""

import json
import threading
from dataclasses import dataclass
from pathlib import Path

from prefect import flow, get_client, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.deployments import run_deployment
from prefect.states import Completed

from bonesoup.workspace import checkout, graph, repro, schedule
from bonesoup.workspace.declared import tidy
from bonesoup.workspace.schedule import Slots
from flows.common import RETRIED, SOURCE, notify, store_variables

DEPLOYMENT = "run-stage/on-another-machine"
# Held while dvc.lock is written here; DVC's lock covers only its own commands.
LOCK_FILE = threading.Lock()


@dataclass(frozen=True)
class Elsewhere:
    """What a worker on another machine needs: the commit and the settings; the rest is in the DVC remote."""

    commit: str
    params: str


@task(task_run_name="{stage}", **RETRIED)
def run_stage(stage: str, own: Path, due: bool, slots: Slots, elsewhere: Elsewhere | None = None):
    """Run a stage of the checkout `own`, or mark it Cached if nothing it depends on has changed."""
    if not due:
        return Completed(name="Cached", message="nothing it depends on has changed")
    if elsewhere:
        return Completed(message=run_elsewhere(stage, own, elsewhere))
    variables = checkout.variables(own) | store_variables()
    outcome = schedule.run_one(stage, own, variables, slots, get_run_logger().info)
    if outcome == "ran":
        return Completed(message="ran")
    told = "restored from the run cache" if outcome == "restored" else "nothing it depends on has changed"
    return Completed(name="Cached", message=told)


def run_elsewhere(stage: str, own: Path, job: Elsewhere) -> str:
    """Have a worker of another machine run a stage, and take the results from the remote; return a note about it.

    Raises:
        RuntimeError: the run there did not complete, or its results did not come.
    """
    lock = own / checkout.LOCK
    with LOCK_FILE:
        text = lock.read_text() if lock.is_file() else ""
    parameters = {"stage": stage, "commit": job.commit, "params": job.params, "lock": text}
    run = run_deployment(DEPLOYMENT, parameters=parameters, flow_run_name=stage, poll_interval=2)
    if not run.state.is_completed():
        raise RuntimeError(f"stage {stage} did not complete on the other machine: {run.state.message}")
    with get_client(sync_client=True) as client:
        (record,) = client.read_artifacts(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run.id])))
    with LOCK_FILE:
        checkout.take_entry(own, stage, json.loads(record.data))
        pull(own, [stage])
    return f"ran in {run.name} on another machine"


@flow(name="run-stage", on_failure=[notify], on_crashed=[notify])
def run_stage_here(stage: str, commit: str, params: str, lock: str) -> None:
    """Run one stage of somebody else's pipeline: pull its inputs, run it, push its outs with the run cache.

    Args:
        stage: a stage of dvc.yaml.
        commit: the code to run, which this clone must have or be able to fetch.
        params, lock: params.yaml and dvc.lock of the pipeline.
    """
    logger = get_run_logger()
    with checkout.held(SOURCE, "stages", wait=24 * 3600) as own:
        _fetch(commit)
        checkout.prepare(SOURCE, own, commit, None, {})
        (own / "params.yaml").write_text(params)
        (own / checkout.LOCK).unlink(missing_ok=True)
        if lock:
            (own / checkout.LOCK).write_text(lock)
        plan = graph.read(own)
        # All that lies upstream: a soup file stands for the adapters that it names.
        if inputs := plan.sources + [name for name in plan.upstream([stage]) if name != stage]:
            pull(own, inputs)
        # What pipelines of other settings have left in this checkout would count as a change.
        tidy(own)
        outcome = repro.reproduce_one(stage, own, checkout.variables(own), logger.info)
        logger.info(f"{stage}: {outcome}")
        push(own, [stage])
        # The caller gets the record of the stage by this artifact.
        create_markdown_artifact(json.dumps(checkout.lock_entry(own, stage)), description="its entry of dvc.lock")


def _fetch(commit: str) -> None:
    try:
        checkout.resolve(SOURCE, commit)
    except ValueError:
        checkout.git(SOURCE, "fetch", "--quiet", "--all")


def push(own: Path, stages: list[str]) -> None:
    """Send the outs of stages and the run cache to the DVC remote.

    Raises:
        RuntimeError: the remote cannot be reached; what is here stays.
    """
    if said := _refused(own, "push", "--run-cache", *stages):
        raise RuntimeError(f"dvc push failed; every result is kept here, push again later:\n{said}")


def pull(own: Path, what: list[str]) -> None:
    """Bring outs of stages, and data that DVC tracks, from the cache, else from the DVC remote.

    Raises:
        RuntimeError: neither has them.
    """
    # The cache first: a pull asks the remote even for what is here, and fails if the remote is down.
    if _refused(own, "checkout", *what) and (said := _refused(own, "pull", *what)):
        raise RuntimeError(f"dvc pull failed; neither the cache nor the remote gave {', '.join(what)}:\n{said}")


@task(**RETRIED)
def fetch_data(own: Path, sources: list[str]) -> None:
    """Bring the data that DVC tracks to the version the commit names."""
    pull(own, sources)


def _refused(own: Path, *arguments: str) -> str:
    """Run a dvc command and return its output if it failed, else nothing."""
    process = repro.start_dvc([*arguments], own, checkout.variables(own))
    said, _ = process.communicate()
    return said.strip()[-2000:] if process.returncode else ""
