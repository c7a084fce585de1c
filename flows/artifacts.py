"""Publish a run in the Prefect UI: the table of methods, the fronts, the registered versions."""

import base64
from pathlib import Path

from prefect.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)

from bonesoup.evaluation.markdown import markdown
from bonesoup.files import read_json
from bonesoup.paths import METRICS, REGISTERED, REPORT


def publish(clone: Path, states: dict) -> None:
    """Publish the artifacts of the run in a checkout, as far as they exist."""
    create_table_artifact(
        table=[{"stage": name, "state": state.name, "what": state.message or ""} for name, state in states.items()],
        key="stages",
        description="Every stage and what came of it",
    )
    # The checkout may hold the results of an earlier run.
    made = [name for name, state in states.items() if state.is_completed()]
    if "report" in made:
        report = read_json(clone / METRICS / "report.json")
        create_markdown_artifact(markdown(report), key="methods", description="Methods compared")
    front = clone / REPORT / "fronts.png"
    if "report" in made and front.is_file():
        picture = "data:image/png;base64," + base64.b64encode(front.read_bytes()).decode()
        create_image_artifact(picture, key="fronts", description="Fronts of the methods")
    if "register" in made:
        registration = read_json(clone / REGISTERED)
        rows = [{"model": name} | version for name, version in registration["models"].items()]
        create_table_artifact(rows, key="versions", description="Versions in the MLflow registry")
        if registration["store"].startswith("http"):
            page = f"{registration['store']}/#/experiments/{registration['experiment']}/runs/{registration['run']}"
            create_link_artifact(page, link_text=registration["run"], key="mlflow-run", description="The run in MLflow")
        else:
            text = (
                f"Run `{registration['run']}` of experiment {registration['experiment']} in `{registration['store']}`"
            )
            create_markdown_artifact(text, key="mlflow-run", description="The run in MLflow")
