"""Delete from the MLflow store, with the files behind it, what retention.py does not keep."""

import contextlib
from collections.abc import Callable

from mlflow.entities.model_registry import ModelVersion
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from bonesoup.promotion import champion
from bonesoup.registry.bases import local_folder
from bonesoup.registry.store import Store
from bonesoup.registry.versions import reference
from bonesoup.upkeep import retention
from bonesoup.upkeep.retention import Retention


def delete(store: Store, uri: str, plan: Retention, echo: Callable[[str], None]) -> list[ModelVersion]:
    """Delete what the plan names; return the versions that stay because they got an alias or a copy meanwhile.

    A version goes before its files and files before their record, so that an interrupted clean leaves no version
    without files and no files without a record. MLflow keeps the rows of deleted runs and models in its database,
    marked as deleted, until `mlflow gc`; its only public way to remove them would remove other people's as well.
    """
    client = store.client
    # Hold aliases still: deleting a version would delete an alias with it.
    with champion.turn(uri):
        spared = []
        copied = retention.copied(retention.registered(store), {reference(version) for version in plan.versions})
        for version in plan.versions:
            if reference(version) in copied:
                echo(f"{reference(version)} has been copied meanwhile: kept")
                spared.append(version)
            elif client.get_model_version(version.name, str(version.version)).aliases:
                echo(f"{reference(version)} has been given an alias meanwhile: kept")
                spared.append(version)
            else:
                client.delete_model_version(version.name, str(version.version))
        unnamed = retention.unnamed(plan.bases, retention.registered(store))
        for base in plan.bases:
            if base in unnamed:
                client.delete_model_version(base.name, str(base.version))
            else:
                echo(f"a version names {reference(base)} meanwhile: kept")
    stay = [*spared, *(base for base in plan.bases if base not in unnamed)]
    safe = {version.run_id for version in stay} | {version.source.removeprefix("models:/") for version in stay}
    for run_id, parent in plan.moved.items():
        client.set_tag(run_id, MLFLOW_PARENT_RUN_ID, parent)
    for model in plan.models:
        if model.model_id not in safe:
            delete_files(model.artifact_location)
            client.delete_logged_model(model.model_id)
    for run in plan.runs:
        if run.info.run_id not in safe:
            delete_files(run.info.artifact_uri)
            client.delete_run(run.info.run_id)
    return spared


def delete_files(artifacts: str) -> None:
    """Delete the files of a run or model at the URI `artifacts`."""
    get_artifact_repository(artifacts).delete_artifacts()
    if folder := local_folder(artifacts):
        with contextlib.suppress(OSError):
            folder.parent.rmdir()
