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


def publish(own: Path, states: dict) -> None:
    """Publish the artifacts of a run in the checkout `own`, as far as they exist."""
    create_table_artifact(
        table=[{"stage": name, "state": state.name, "what": state.message or ""} for name, state in states.items()],
        key="stages",
        description="Every stage and what came of it",
    )
    report = own / METRICS / "report.json"
    if report.is_file():
        create_markdown_artifact(markdown(read_json(report)), key="methods", description="Methods compared")
    front = own / REPORT / "fronts.png"
    if front.is_file():
        picture = "data:image/png;base64," + base64.b64encode(front.read_bytes()).decode()
        create_image_artifact(picture, key="fronts", description="Fronts of the methods")
    registered = own / REGISTERED
    if registered.is_file() and "register" in states and states["register"].is_completed():
        found = read_json(registered)
        rows = [{"model": name} | version for name, version in found["models"].items()]
        create_table_artifact(rows, key="versions", description="Versions in the MLflow registry")
        if found["store"].startswith("http"):
            page = f"{found['store']}/#/experiments/{found['experiment']}/runs/{found['run']}"
            create_link_artifact(page, link_text=found["run"], key="mlflow-run", description="The run in MLflow")
        else:
            text = f"Run `{found['run']}` of experiment {found['experiment']} in `{found['store']}`"
            create_markdown_artifact(text, key="mlflow-run", description="The run in MLflow")
