"""Flow watch-data: start train-soup when a tracked input has changed. It is cheap: it trains nothing."""

from pathlib import Path

from prefect import flow, get_client, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.deployments import run_deployment
from prefect.states import Completed

from bonesoup.files import digest, file_digest
from bonesoup.settings import params
from bonesoup.settings.pins import newest
from bonesoup.workspace import checkout, dvc_lock, graph
from bonesoup.workspace.repro import inputs as inputs_of
from flows.common import SOURCE, notify
from flows.stages import fetch_data
from flows.train_soup import CHECKOUT

DEPLOYMENT = "train-soup/on-demand"


@flow(name="watch-data", on_failure=[notify], on_crashed=[notify])
def watch_data(deployment: str = DEPLOYMENT):
    """Compare the data with the data of the last train-soup; a newer commit on the Hub is only proposed.

    Args:
        deployment: of train-soup, started when data has changed; its parameters say which data counts.
    """
    with get_client(sync_client=True) as client:
        wanted = client.read_deployment_by_name(deployment).parameters
    try:
        with checkout.held(SOURCE, CHECKOUT, wait=0) as clone:
            if not (clone / dvc_lock.LOCK).is_file():
                return Completed(message=f"train-soup has not run yet: start {deployment} once")
            commit = wanted.get("commit", "HEAD")
            checkout.prepare(SOURCE, clone, commit, wanted.get("profile"), wanted.get("overrides"))
            propose_pins(clone)
            changed = changed_inputs(clone)
    except TimeoutError as error:
        return Completed(name="Skipped", message=f"train-soup is at work: {error}")
    if not changed:
        return Completed(message="no tracked input has changed")
    # The same change starts one run, however often it is seen, until some run has completed.
    key = digest(changed, last_completed())
    run = run_deployment(deployment, timeout=0, as_subflow=False, idempotency_key=key)
    message = f"{', '.join(sorted(changed))} changed: started {run.name}"
    if run.state and run.state.is_final():
        message = (
            f"{', '.join(sorted(changed))} changed: {run.name} was started for it and ended {run.state.name}; start "
            f"{deployment} by hand once the cause is mended"
        )
    get_run_logger().info(message)
    return Completed(message=message)


def last_completed() -> str:
    """Return the last run of train-soup that completed; empty if there is none."""
    completed = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.COMPLETED])))
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=["train-soup"])),
            flow_run_filter=completed,
            sort=FlowRunSort.END_TIME_DESC,
            limit=1,
        )
    return str(runs[0].id) if runs else ""


def changed_inputs(clone: Path) -> dict[str, str]:
    """Map each input file that differs from what a stage was run with to the digest of its present content."""
    plan = graph.read(clone)
    if plan.sources:
        fetch_data(clone, plan.sources)
    inputs = set(inputs_of(params.load(clone / "params.yaml")).values())
    ran, digests = dvc_lock.stages(clone / dvc_lock.LOCK), {}
    for stage, faults in graph.status(clone).items():
        for fault in faults if stage in ran else []:
            changed = fault.get("changed deps", {}) if isinstance(fault, dict) else {}
            digests |= {path: file_digest(clone / path) for path in inputs & set(changed) if (clone / path).exists()}
    return digests


def propose_pins(clone: Path) -> None:
    """Report pinned datasets and models that have a newer commit, with the command that takes it."""
    lines = []
    for pin in params.load(clone / "params.yaml").pins():
        try:
            commit = newest(pin)
        except ConnectionError as error:
            get_run_logger().warning(str(error))
            continue
        if commit != pin.revision:
            lines.append(f"- {pin.repository}: `bonesoup profile --set {pin.key}={commit}` (now {pin.revision})")
    if lines:
        create_markdown_artifact("Newer commits on the Hub:\n\n" + "\n".join(lines), key="pins")
