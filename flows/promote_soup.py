"""promote-soup: judge a version by mlflow/promotion.yaml and, if it may and somebody agrees, move the alias."""

from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import DEFAULT
from prefect.flow_runs import suspend_flow_run
from prefect.states import Completed

from flows.common import RETRIED, ask, committed, notify

CHECKOUT = "promote-soup"
# Nobody has agreed within a week: the run fails, and nothing is promoted.
APPROVAL_SECONDS = 7 * 24 * 3600


@task(**RETRIED)
def judge(clone: Path, version: str | None, move: bool) -> dict:
    """Run `bonesoup promote`: return its decision with the evidence, which also becomes an artifact."""
    options = [] if move else ["--dry-run"]
    decision = ask(clone, "promote", *options, of=[version] if version else [])
    create_table_artifact(decision["checks"], key="promotion", description=decision["summary"])
    return decision


@flow(name="promote-soup", on_failure=[notify], on_crashed=[notify], persist_result=True)
def promote_soup(version: str | None = None, approval: bool = False):
    """Promote a version of the soup to champion if the evidence meets the rule of the last commit.

    Args:
        version: 3, MODEL/3 or @alias; by default the newest.
        approval: once the rule is met, suspend until a person resumes the run.
    """
    with committed(CHECKOUT) as clone:
        if approval:
            # Kept with the run: a resumed run starts over, and must be about the version that was agreed to.
            proposal = judge.with_options(cache_policy=DEFAULT, persist_result=True)(clone, version, move=False)
            if not proposal["granted"]:
                return Completed(name="Refused", message=proposal["summary"])
            version = proposal["version"]
            get_run_logger().info(f"the rule is met; resume this run to promote {version}")
            suspend_flow_run(key=f"approval-{version}", timeout=APPROVAL_SECONDS)
        decision = judge(clone, version, move=True)
        return Completed(name="Completed" if decision["granted"] else "Refused", message=decision["summary"])
