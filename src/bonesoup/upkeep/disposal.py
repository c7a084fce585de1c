"""Delete from the MLflow store what retention.py lets go, and the files behind it."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from mlflow.entities.model_registry import ModelVersion
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from bonesoup.promotion import champion
from bonesoup.registry.names import reference
from bonesoup.registry.store import DATABASES, Store
from bonesoup.upkeep import retention
from bonesoup.upkeep.retention import Retention


def delete(store: Store, uri: str, plan: Retention, echo: Callable[[str], None]) -> list[ModelVersion]:
    """Delete what goes; the versions that stay after all, because they have been given an alias or copied meanwhile.

    A version goes before its files and files before their record, so that a clean that is cut short leaves no version
    without files and no files without a record.

    Args:
        uri: of the store; a server keeps the rows of deleted runs until its own `mlflow gc`.
    """
    client = store.client
    # No alias moves meanwhile: deleting a version would take the alias with it.
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
    safe = {version.run_id for version in spared} | {version.source.removeprefix("models:/") for version in spared}
    for run_id, parent in plan.moved.items():
        client.set_tag(run_id, MLFLOW_PARENT_RUN_ID, parent)
    rows = client._tracking_client.store if urlsplit(uri).scheme.split("+")[0] in DATABASES else None
    for model in plan.models:
        if model.model_id not in safe:
            free(model.artifact_location)
            client.delete_logged_model(model.model_id)
            # As `mlflow gc` does, which would also purge what other people have deleted.
            if rows:
                rows._hard_delete_logged_model(model.model_id)
    for run in plan.runs:
        if run.info.run_id not in safe:
            free(run.info.artifact_uri)
            client.delete_run(run.info.run_id)
            if rows:
                rows._hard_delete_run(run.info.run_id)
    return spared


def free(place: str) -> None:
    """Delete the files of a run or model."""
    get_artifact_repository(place).delete_artifacts()
    if folder := local(place):
        with contextlib.suppress(OSError):
            folder.parent.rmdir()


def size(place: str) -> int:
    """Bytes of the files of a run or model."""
    if folder := local(place):
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    repository = get_artifact_repository(place)
    total, todo = 0, [None]
    while todo:
        for item in repository.list_artifacts(todo.pop()):
            if item.is_dir:
                todo.append(item.path)
            else:
                total += item.file_size or 0
    return total


def local(place: str) -> Path | None:
    """The folder of a place on this machine."""
    parts = urlsplit(place)
    return Path(url2pathname(parts.path)) if parts.scheme in ("", "file") else None
