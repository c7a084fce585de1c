"""Flow evaluate-models: score registered versions on the current yardstick, or on new prompts."""

from prefect import flow, task
from prefect.artifacts import create_table_artifact

from flows.common import RETRIED, SOURCE, ask, committed, notify

CHECKOUT = "evaluate-models"


@task(**RETRIED)
def score(versions: list[str], prompts: str | None) -> dict:
    """Run `bonesoup evaluate`: return the metrics of each version with their intervals, and their yardstick."""
    options = ["--prompts", str((SOURCE / prompts).absolute())] if prompts else []
    with committed(CHECKOUT) as clone:
        return ask(clone, "evaluate", *options, of=versions)


@flow(name="evaluate-models", on_failure=[notify], on_crashed=[notify])
def evaluate_models(versions: list[str] | None = None, prompts: str | None = None) -> None:
    """Score versions and write the results to them.

    Args:
        versions: numbers, MODEL/NUMBER or @alias; by default the champion and the newest.
        prompts: a file of prompts to use instead of the yardstick's; relative to the worker's clone.
    """
    result = score(versions or [], prompts)
    rows = [
        {"version": version["version"], "method": method} | {name: _text(metric) for name, metric in metrics.items()}
        for version in result["versions"]
        for method, metrics in version["methods"].items()
    ]
    about = f"Yardstick {result['yardstick']}, {result['prompts']} prompts of {result['file'] or 'its own'}"
    create_table_artifact(rows, key="evaluation", description=about)


def _text(metric: dict) -> str:
    return f"{metric['value']:.4g} [{metric['low']:.4g}, {metric['high']:.4g}]"
