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

from bonesoup.workspace import checkout, dvc_lock, graph, repro, schedule
from bonesoup.workspace.declared import tidy
from bonesoup.workspace.schedule import Slots
from flows.common import RETRIED, SOURCE, notify, store_variables

DEPLOYMENT = "run-stage/on-another-machine"
# Held while dvc.lock is written here; DVC's lock covers only its own commands.
LOCK_FILE = threading.Lock()


@dataclass(frozen=True)
class Elsewhere:
    """The inputs of a worker on another machine: commit and settings; the rest is in the DVC remote."""

    commit: str
    params: str


@task(task_run_name="{stage}", **RETRIED)
def run_stage(stage: str, clone: Path, due: bool, slots: Slots, elsewhere: Elsewhere | None):
    """Run a stage of a checkout, or mark it Cached if nothing it depends on has changed."""
    if not due:
        return Completed(name="Cached", message="nothing it depends on has changed")
    if elsewhere:
        return Completed(message=run_elsewhere(stage, clone, elsewhere))
    variables = checkout.variables(clone) | store_variables()
    outcome = schedule.run_one(stage, clone, variables, slots, get_run_logger().info)
    if outcome == "ran":
        return Completed(message="ran")
    reason = "restored from the run cache" if outcome == "restored" else "nothing it depends on has changed"
    return Completed(name="Cached", message=reason)


def run_elsewhere(stage: str, clone: Path, job: Elsewhere) -> str:
    """Let a worker on another machine run a stage, and fetch its results from the remote; return a note about it.

    Raises:
        RuntimeError: the run there did not complete, or its results did not come.
    """
    lock = clone / dvc_lock.LOCK
    with LOCK_FILE:
        text = lock.read_text() if lock.is_file() else ""
    parameters = {"stage": stage, "commit": job.commit, "params": job.params, "lock": text}
    run = run_deployment(DEPLOYMENT, parameters=parameters, flow_run_name=stage, poll_interval=2)
    if not run.state.is_completed():
        raise RuntimeError(f"stage {stage} did not complete on the other machine: {run.state.message}")
    with get_client(sync_client=True) as client:
        (record,) = client.read_artifacts(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run.id])))
    with LOCK_FILE:
        dvc_lock.take(lock, stage, json.loads(record.data))
        pull(clone, [stage])
    return f"ran in {run.name} on another machine"


@flow(name="run-stage", on_failure=[notify], on_crashed=[notify])
def run_stage_here(stage: str, commit: str, params: str, lock: str) -> None:
    """Run one stage of another machine's pipeline: pull its inputs, run it, push its outs with the run cache.

    Args:
        stage: a stage of dvc.yaml.
        commit: the code to run, which this clone must have or be able to fetch.
        params, lock: params.yaml and dvc.lock of the pipeline.
    """
    logger = get_run_logger()
    with checkout.held(SOURCE, "stages", wait=24 * 3600) as clone:
        _fetch(commit)
        checkout.prepare(SOURCE, clone, commit)
        (clone / "params.yaml").write_text(params)
        record = clone / dvc_lock.LOCK
        record.unlink(missing_ok=True)
        if lock:
            record.write_text(lock)
        plan = graph.read(clone)
        # All that lies upstream: a soup file stands for the adapters that it names.
        if inputs := plan.sources + [name for name in plan.upstream([stage]) if name != stage]:
            pull(clone, inputs)
        # What pipelines of other settings have left in this checkout would count as a change.
        tidy(clone)
        outcome = repro.reproduce_one(stage, clone, checkout.variables(clone), logger.info)
        logger.info(f"{stage}: {outcome}")
        push(clone, [stage])
        # The caller gets the record of the stage by this artifact.
        create_markdown_artifact(json.dumps(dvc_lock.stages(record)[stage]), description="its entry of dvc.lock")


def _fetch(commit: str) -> None:
    try:
        checkout.resolve(SOURCE, commit)
    except ValueError:
        checkout.git(SOURCE, "fetch", "--quiet", "--all")


def push(clone: Path, stages: list[str]) -> None:
    """Send the outs of stages and the run cache to the DVC remote.

    Raises:
        RuntimeError: the remote cannot be reached; local results stay.
    """
    if output := _refused(clone, "push", "--run-cache", *stages):
        raise RuntimeError(f"dvc push failed; every result is kept here, push again later:\n{output}")


def pull(clone: Path, what: list[str]) -> None:
    """Bring outs of stages, and data that DVC tracks, from the cache, else from the DVC remote.

    Raises:
        RuntimeError: neither has them.
    """
    # The cache first: a pull asks the remote even for what is here, and fails if the remote is down.
    if _refused(clone, "checkout", *what) and (output := _refused(clone, "pull", *what)):
        raise RuntimeError(f"dvc pull failed; neither the cache nor the remote gave {', '.join(what)}:\n{output}")


@task(**RETRIED)
def fetch_data(clone: Path, sources: list[str]) -> None:
    """Bring the data that DVC tracks to the version the commit names."""
    pull(clone, sources)


def _refused(clone: Path, *arguments: str) -> str:
    """Run a dvc command and return its output if it failed, else nothing."""
    process = repro.start_dvc([*arguments], clone, checkout.variables(clone))
    output, _ = process.communicate()
    return output.strip()[-2000:] if process.returncode else ""
