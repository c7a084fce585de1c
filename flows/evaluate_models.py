"""Flow evaluate-models: score registered versions on the current yardstick, or on new prompts."""

from prefect import flow, task
from prefect.artifacts import create_table_artifact

from flows.common import RETRIED, SOURCE, ask, committed, notify

CHECKOUT = "evaluate-models"


@task(**RETRIED)
def score(versions: list[str], prompts: str | None) -> dict:
    """`bonesoup evaluate`: the metrics of each version with their intervals, and what they were measured on."""
    options = ["--prompts", str((SOURCE / prompts).absolute())] if prompts else []
    with committed(CHECKOUT) as own:
        return ask(own, "evaluate", *options, of=versions)


@flow(name="evaluate-models", on_failure=[notify], on_crashed=[notify])
def evaluate_models(versions: list[str] | None = None, prompts: str | None = None) -> None:
    """Score versions and write the results to them.

    Args:
        versions: numbers, MODEL/NUMBER or @alias; the champion and the newest where none is given.
        prompts: a file of prompts to use in place of the yardstick's own; relative to the worker's clone.
    """
    found = score(versions or [], prompts)
    rows = [
        {"version": version["version"], "method": method} | {name: _text(metric) for name, metric in metrics.items()}
        for version in found["versions"]
        for method, metrics in version["methods"].items()
    ]
    about = f"Yardstick {found['yardstick']}, {found['prompts']} prompts of {found['file'] or 'its own'}"
    create_table_artifact(rows, key="evaluation", description=about)


def _text(metric: dict) -> str:
    return f"{metric['value']:.4g} [{metric['low']:.4g}, {metric['high']:.4g}]"
