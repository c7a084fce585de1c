"""Read what a decision about the champion of the league left behind."""

from pathlib import Path

import mlflow

from bonesoup.files import read_json
from bonesoup.registry import versions

RULE = Path(__file__).parents[1] / "mlflow/promotion.yaml"


def holder(league, model: str | None = None) -> str | None:
    version = versions.aliased(league.store.client, model or league.model, "champion")
    return str(version.version) if version else None


def evidence(league, version: str) -> list[dict]:
    """List every decision that a version holds, oldest first."""
    run = league.store.client.get_model_version(league.model, version).run_id
    files = sorted(item.path for item in league.store.client.list_artifacts(run, "decisions"))
    return [read_json(Path(mlflow.artifacts.download_artifacts(run_id=run, artifact_path=file))) for file in files]


def failed(decision) -> list[str]:
    return [check.name for check in decision.checks if not check.passed]
