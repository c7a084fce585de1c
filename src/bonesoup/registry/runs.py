"""Create MLflow runs once: a fingerprint tag identifies each, and the status FINISHED says that it is complete.

An interrupted run keeps its tag and is completed later, so neither a crash nor a second call leaves two.
"""

import re
from typing import Any

from mlflow.entities import Metric, Param, Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT

from bonesoup.registry.lineage import Code
from bonesoup.registry.store import Store
from bonesoup.registry.versions import reference

FINGERPRINT = "bonesoup.fingerprint"
# Limits of one request to the tracking API.
BATCH_METRICS, BATCH_PARAMS, PARAM_CHARACTERS = 1000, 100, 6000


def find(store: Store, fingerprint: str) -> Run | None:
    """Return the run with this fingerprint; None if there is none."""
    runs = store.client.search_runs(
        [store.experiment], f"tags.`{FINGERPRINT}` = '{fingerprint}'", order_by=["attributes.start_time ASC"]
    )
    return runs[0] if runs else None


def finished(run: Run | None) -> bool:
    """Return True if the run exists and is complete."""
    return run is not None and run.info.status == "FINISHED"


def opened(store: Store, name: str, fingerprint: str, tags: dict[str, str]) -> Run:
    """Return the run with this fingerprint, and create it if there is none."""
    return find(store, fingerprint) or store.client.create_run(
        store.experiment, tags=tags | {FINGERPRINT: fingerprint}, run_name=name
    )


def tags(stage: str, key: str, code: Code) -> dict[str, str]:
    """Return the tags of a run."""
    commit = {"git_commit": code.commit, MLFLOW_GIT_COMMIT: code.commit}
    return {"stage": stage, "key": key, "git_dirty": str(code.dirty).lower()} | commit


def log_params(store: Store, run: Run, params: dict) -> None:
    """Record parameters, as many requests as MLflow's limit needs."""
    rows = [Param(key(name), str(value)[:PARAM_CHARACTERS]) for name, value in params.items()]
    for start in range(0, len(rows), BATCH_PARAMS):
        store.client.log_batch(run.info.run_id, params=rows[start : start + BATCH_PARAMS])


def log_metrics(store: Store, run_id: str, points: list[Metric]) -> None:
    """Record metrics, as many requests as MLflow's limit needs."""
    for start in range(0, len(points), BATCH_METRICS):
        store.client.log_batch(run_id, metrics=points[start : start + BATCH_METRICS])


def check_writable(store: Store, version: ModelVersion) -> None:
    """Check that scores can be recorded with a version, before they are computed.

    Raises:
        ValueError: its run was deleted in MLflow; says how to restore it.
    """
    name, run = reference(version), version.run_id
    try:
        deleted = store.client.get_run(run).info.lifecycle_stage == "deleted"
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
            raise
        raise ValueError(
            f"{name} cannot be scored: its run {run}, which holds its scores, was deleted from MLflow for good. "
            "If out/ still has its results, delete the version and `bonesoup register` makes it again"
        ) from None
    if deleted:
        raise ValueError(
            f"{name} cannot be scored: its run {run}, which holds its scores, was deleted in MLflow. "
            f"`mlflow runs restore --run-id {run}` restores it"
        )


def key(name: str) -> str:
    """Replace the characters that MLflow refuses in the name of a metric or parameter."""
    return re.sub(r"[^\w\-. /]", "_", name)[:250]


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Turn nested dicts into {"a.b": leaf}; lists stay leaves."""
    if not isinstance(value, dict):
        return {prefix: value}
    flat = {}
    for name, item in value.items():
        flat |= flatten(item, f"{prefix}.{name}" if prefix else str(name))
    return flat
