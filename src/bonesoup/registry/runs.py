"""Send stage runs to MLflow, each once.

A run is known by its fingerprint tag and done when it is FINISHED. One that was cut short keeps its tag and
is filled again, so neither a crash nor a second call leaves two.
"""

import re
import time
from collections.abc import Callable
from pathlib import Path

from mlflow.entities import Metric, Param, Run
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT, MLFLOW_PARENT_RUN_ID

from bonesoup.files import digest
from bonesoup.registry.lineage import Code
from bonesoup.registry.mirror import StageRun, flatten
from bonesoup.registry.store import Store

FINGERPRINT = "bonesoup.fingerprint"
# What the tracking API takes in one request.
BATCH_METRICS, BATCH_PARAMS, PARAM_CHARACTERS = 1000, 100, 6000


def find(store: Store, fingerprint: str) -> Run | None:
    runs = store.client.search_runs(
        [store.experiment], f"tags.`{FINGERPRINT}` = '{fingerprint}'", order_by=["attributes.start_time ASC"]
    )
    return runs[0] if runs else None


def finished(run: Run | None) -> bool:
    return run is not None and run.info.status == "FINISHED"


def opened(store: Store, name: str, fingerprint: str, tags: dict[str, str]) -> Run:
    """The run of this fingerprint, made where there is none."""
    return find(store, fingerprint) or store.client.create_run(
        store.experiment, tags=tags | {FINGERPRINT: fingerprint}, run_name=name
    )


def tags(stage: str, key: str, code: Code) -> dict[str, str]:
    dirty = str(code.dirty).lower()
    return {
        "stage": stage,
        "key": key,
        "git_commit": code.commit,
        "git_dirty": dirty,
        MLFLOW_GIT_COMMIT: code.commit,
    }


def open_parent(store: Store, root: Path, settings: dict, stages: list[StageRun], code: Code) -> Run:
    """The run above all others of one state of the pipeline, with all settings, params.yaml, dvc.lock."""
    fingerprint = digest("pipeline", settings, [run.fingerprint for run in stages])
    run = opened(store, f"pipeline {fingerprint[:8]}", fingerprint, tags("pipeline", "", code))
    if not finished(run):
        log_params(store, run, flatten(settings))
        for path in [
            root / "params.yaml",
            root / "dvc.lock",
            *sorted((root / "out" / "gates").glob("*.json")),
        ]:
            if path.exists():
                store.client.log_artifact(run.info.run_id, str(path))
        if code.dirty:
            store.client.log_text(run.info.run_id, code.changes, "changes.diff")
        listing = {run.name: run.fingerprint for run in stages}
        store.client.log_dict(run.info.run_id, listing, "stages.json")
    return run


def mirror(
    store: Store, stages: list[StageRun], parent: Run, code: Code, echo: Callable[[str], None]
) -> tuple[list[str], list[str]]:
    """Send every run that the store does not have; (names sent, names it had)."""
    sent, had = [], []
    for stage in stages:
        run = find(store, stage.fingerprint)
        if finished(run):
            had.append(stage.name)
            continue
        start = time.monotonic()
        own = tags(stage.stage, stage.key, code) | {MLFLOW_PARENT_RUN_ID: parent.info.run_id}
        send(store, run or opened(store, stage.name, stage.fingerprint, own), stage)
        sent.append(stage.name)
        echo(f"{stage.name}: run sent ({time.monotonic() - start:.1f} s)")
    return sent, had


def send(store: Store, run: Run, stage: StageRun) -> None:
    log_params(store, run, stage.params)
    # One time for all points of a run: sent twice, they are the same points.
    at = run.info.start_time
    points = [Metric(key(name), value, at, 0) for name, value in stage.metrics.items()]
    for row in stage.steps:
        points += [
            Metric(key(name), float(value), at, int(row["step"]))
            for name, value in row.items()
            if name != "step" and isinstance(value, int | float)
        ]
    for start in range(0, len(points), BATCH_METRICS):
        store.client.log_batch(run.info.run_id, metrics=points[start : start + BATCH_METRICS])
    for path in stage.artifacts:
        if path.is_dir():
            store.client.log_artifacts(run.info.run_id, str(path), path.name)
        else:
            store.client.log_artifact(run.info.run_id, str(path))
    store.client.set_terminated(run.info.run_id, "FINISHED")


def log_params(store: Store, run: Run, params: dict) -> None:
    rows = [Param(key(name), str(value)[:PARAM_CHARACTERS]) for name, value in params.items()]
    for start in range(0, len(rows), BATCH_PARAMS):
        store.client.log_batch(run.info.run_id, params=rows[start : start + BATCH_PARAMS])


def key(name: str) -> str:
    """A name MLflow takes for a metric or parameter."""
    return re.sub(r"[^\w\-. /]", "_", name)[:250]
