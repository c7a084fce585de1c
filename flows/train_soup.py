"""Flow train-soup: the whole pipeline, from data to registered versions, in a separate checkout."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.context import get_run_context
from prefect.deployments import run_deployment
from prefect.states import Completed, Failed

from bonesoup.files import read_json
from bonesoup.paths import REGISTERED
from bonesoup.settings import params
from bonesoup.workspace import checkout, graph, schedule
from bonesoup.workspace.declared import tidy
from flows.artifacts import publish
from flows.common import PAUSES, RETRIED, SOURCE, command, notify
from flows.promote_soup import judge
from flows.stages import Elsewhere, fetch_data, push, run_stage

CHECKOUT = "train-soup"
APPROVAL = "promote-soup/with-approval"
# A run by hand waits for the one before it; a scheduled one is skipped.
WAIT = 24 * 3600.0


@flow(name="train-soup", on_failure=[notify], on_crashed=[notify])
def train_soup(
    profile: str | None = None,
    overrides: dict[str, Any] | None = None,
    stages: list[str] | None = None,
    commit: str = "HEAD",
    push_results: bool = False,
    register_versions: bool = True,
    promotion: Literal["no", "by rule", "with approval"] = "no",
    on_other_machines: bool = False,
    keep: int | None = None,
):
    """Train, evaluate and register a soup: run exactly the stages that are not up to date.

    Args:
        profile: name in profiles/; by default the commit's params.yaml.
        overrides: single settings on top, such as {"seed": 1, "rl.updates": 150}.
        stages: run only these and the stages they need.
        commit: code and settings to run.
        push_results: send results and run cache to the DVC remote.
        register_versions: send runs and versions to MLflow.
        promotion: judge the new version by mlflow/promotion.yaml, immediately or in a run that waits for a person.
        on_other_machines: run each stage in the deployment run-stage, on whichever worker takes it.
        keep: at the end, run `bonesoup clean` with this number of versions to keep.
    """
    scheduled = get_run_context().flow_run.auto_scheduled
    with ExitStack() as stack:
        try:
            clone = stack.enter_context(checkout.held(SOURCE, CHECKOUT, 0 if scheduled else WAIT))
        except TimeoutError as error:
            if scheduled:
                return Completed(name="Skipped", message=f"the run before it is still going: {error}")
            return Failed(message=str(error))
        sha = checkout.prepare(SOURCE, clone, commit, profile, overrides)
        get_run_logger().info(f"{clone} is at {sha[:12]}")
        elsewhere = Elsewhere(sha, (clone / "params.yaml").read_text()) if on_other_machines else None
        return _train(clone, stages or [], push_results, register_versions, promotion, elsewhere, keep)


def _train(
    clone: Path,
    stages: list[str],
    push_results: bool,
    register: bool,
    promotion: str,
    elsewhere: Elsewhere | None,
    keep: int | None,
) -> State:
    plan = graph.read(clone)
    if plan.sources:
        fetch_data(clone, plan.sources)
    tidy(clone)
    work = schedule.work(clone, plan, stages)
    slots = schedule.slots(schedule.devices(params.load(clone / "params.yaml")))
    futures = {}
    for name, needs in work.needs.items():
        if name == "register" and not register:
            continue
        waited = [futures[other] for other in needs]
        # Registering writes to the store of this machine's choice, and takes seconds.
        where = None if name == "register" else elsewhere
        futures[name] = run_stage.submit(name, clone, name in work.due, slots, where, wait_for=waited)
    states = {name: _ended(future) for name, future in futures.items()}
    if push_results:
        made = [name for name, state in states.items() if state.is_completed()]
        states["push"] = _ended(push_outs.submit(clone, made))
    failed = [name for name, state in states.items() if state.is_failed() or state.is_crashed()]
    publish(clone, states)
    # What was not pushed is registered and measured all the same: the next run has no new version to judge.
    if failed and failed != ["push"]:
        return _failed(failed, states)
    if promotion != "no" and "register" in work.due and "register" in futures:
        ask_promotion(clone, promotion)
    if keep:
        clean(keep)
    if failed:
        return _failed(failed, states)
    return Completed(message=f"{len(work.due & set(futures))} of {len(futures)} stages were due")


def _failed(names: list[str], states: dict[str, State]) -> State:
    reason = states[names[0]].result(raise_on_failure=False)
    return Failed(message=f"{', '.join(names)} failed: {reason}")


def _ended(future) -> State:
    future.wait()
    return future.state


@task(task_run_name="push", **RETRIED | {"retries": 2, "retry_delay_seconds": PAUSES[:2]})
def push_outs(clone: Path, names: list[str]) -> None:
    """Send results and run cache to the DVC remote."""
    push(clone, names)


@task(cache_policy=NO_CACHE, persist_result=False)
def clean(keep: int) -> None:
    """Run `bonesoup clean`, so that a schedule does not fill the disk; out/ and scratch/ of the clone stay."""
    status, answer, lines = command(SOURCE, "clean", "--keep", str(keep), "--shared", "--yes")
    get_run_logger().info(answer)
    if status:
        raise RuntimeError(f"clean failed, all else is done: {lines[-1] if lines else ''}")


def ask_promotion(clone: Path, promotion: str) -> None:
    """Request judgement of the soup that this run registered, unless the version existed before."""
    name = f"{params.load(clone / 'params.yaml').register_.name}-soup"
    soup = read_json(clone / REGISTERED)["models"][name]
    if not soup["new"]:
        get_run_logger().info(f"{name}/{soup['version']} is no new version: nothing to promote")
        return
    version = f"{name}/{soup['version']}"
    if promotion == "by rule":
        get_run_logger().info(judge(clone, version, move=True)["summary"])
    else:
        run = run_deployment(APPROVAL, parameters={"version": version}, timeout=0, as_subflow=False)
        get_run_logger().info(f"promotion of {version} asked for: run {run.name} waits for approval")
