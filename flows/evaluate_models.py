"""evaluate-models: score registered versions on the current yardstick, or on new prompts."""

from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from flows.common import PAUSES, SOURCE, bonesoup, notify, worth_retrying


@task(
    retries=len(PAUSES),
    retry_delay_seconds=PAUSES,
    retry_condition_fn=worth_retrying,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def score(versions: list[str], prompts: str | None) -> list[dict]:
    """`bonesoup evaluate`: the metrics of each version with their intervals."""
    return bonesoup(SOURCE, "evaluate", *versions, *(["--prompts", prompts] if prompts else []))


@flow(name="evaluate-models", on_failure=[notify], on_crashed=[notify])
def evaluate_models(versions: list[str] | None = None, prompts: str | None = None) -> None:
    """Score versions and write the results to them.

    Args:
        versions: numbers, MODEL/NUMBER or @alias; the champion and the newest where none is given.
        prompts: a file of prompts to use in place of the yardstick's own.
    """
    rows = score(versions or [], prompts)
    create_table_artifact(rows, key="evaluation", description=prompts or "on the current yardstick")
