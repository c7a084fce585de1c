"""promote-soup: judge a version by mlflow/promotion.yaml and, if it may and somebody agrees, move the alias."""

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.flow_runs import suspend_flow_run
from prefect.states import Completed

from flows.common import PAUSES, SOURCE, bonesoup, notify, worth_retrying

# Nobody has agreed within a week: the run fails, and nothing is promoted.
APPROVAL_SECONDS = 7 * 24 * 3600


@task(
    retries=len(PAUSES),
    retry_delay_seconds=PAUSES,
    retry_condition_fn=worth_retrying,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def judge(version: str | None, move: bool) -> dict:
    """`bonesoup promote`: its decision, with the evidence."""
    return bonesoup(SOURCE, "promote", *([version] if version else []), *([] if move else ["--dry-run"]))


@flow(name="promote-soup", on_failure=[notify], on_crashed=[notify], persist_result=True)
def promote_soup(version: str | None = None, approval: bool = False):
    """Promote a version of the soup to champion by evidence.

    Args:
        version: 3, MODEL/3 or @alias; the newest where none is given.
        approval: suspend, once the rule is met, until a person resumes the run.
    """
    if approval:
        decision = judge(version, move=False)
        show(decision)
        if not decision["granted"]:
            return Completed(name="Refused", message=decision["summary"])
        version = decision["version"]
        get_run_logger().info(f"the rule is met; resume this run to promote {version}")
        suspend_flow_run(key=f"approval-{version}", timeout=APPROVAL_SECONDS)
    decision = judge(version, move=True)
    show(decision)
    return Completed(name="Completed" if decision["granted"] else "Refused", message=decision["summary"])


def show(decision: dict) -> None:
    create_table_artifact(decision["checks"], key="promotion", description=decision["summary"])
