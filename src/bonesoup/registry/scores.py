"""A version's scores on a yardstick: samples in its own run, metrics beside them, short tags for lists.

    yardsticks/<digest>/<method>.parquet   one row per preference and prompt, as in out/fronts/<method>/samples.parquet
    yardsticks/<digest>/scores.json        metrics with intervals, by method
    metrics yardstick/<digest>/<method>/<metric>, and the tags below on the version

Light: registration writes with it what evaluation has measured already, scoring.py measures what is missing.
"""

import shutil
import tempfile
from pathlib import Path

import mlflow
from mlflow.entities import Metric
from mlflow.entities.model_registry import ModelVersion

from bonesoup.files import read_json
from bonesoup.registry import runs
from bonesoup.registry.evidence import Evidence
from bonesoup.registry.store import Store

# Version tag: the methods that are scored on that yardstick.
SCORED = "yardstick/"
# What a tag would only clutter: scores.json has it.
DETAIL = ("hypervolume", "cardinality", "sparsity", "spacing")


def folder(digest: str) -> str:
    return f"yardsticks/{digest}"


def scored(version: ModelVersion, digest: str) -> list[str]:
    """The methods of a version that have scores on a yardstick."""
    return [name for name in version.tags.get(SCORED + digest, "").split(",") if name]


def text(found: dict[str, float]) -> str:
    return f"{found['value']:.4g} [{found['low']:.4g}, {found['high']:.4g}]"


def parse(text: str) -> dict[str, float]:
    """The numbers of what `text` wrote; to four digits."""
    value, low, high = map(float, text.replace("[", "").replace("]", "").replace(",", "").split())
    return {"value": value, "low": low, "high": high}


def tags(digest: str, methods: list[str], own: Evidence) -> dict[str, str]:
    """Tags of a scored version; `own` is the evidence of its own method."""
    shown = {name: found for name, found in own.items() if not name.rpartition("/")[2].startswith(DETAIL)}
    return {runs.key(f"{digest}/{name}"): text(found) for name, found in shown.items()} | {
        SCORED + digest: ",".join(methods)
    }


def upload(store: Store, run_id: str, digest: str, samples: dict[str, Path], evidence: dict[str, Evidence]) -> None:
    """Send samples (method -> parquet) and metrics (method -> evidence) to a version's run."""
    with tempfile.TemporaryDirectory(prefix="scores-") as work:
        for method, path in samples.items():
            shutil.copyfile(path, Path(work) / f"{method}.parquet")
        store.client.log_artifacts(run_id, work, folder(digest))
    store.client.log_dict(run_id, evidence, f"{folder(digest)}/scores.json")
    at = store.client.get_run(run_id).info.start_time
    points = [
        Metric(runs.key(f"yardstick/{digest}/{method}/{name if end == 'value' else f'{name}/{end}'}"), value, at, 0)
        for method, metrics in evidence.items()
        for name, found in metrics.items()
        for end, value in found.items()
    ]
    for start in range(0, len(points), runs.BATCH_METRICS):
        store.client.log_batch(run_id, metrics=points[start : start + runs.BATCH_METRICS])


def mark(store: Store, version: ModelVersion, digest: str, methods: list[str], own: Evidence) -> None:
    """Tag a version as scored; last, so that a tag means whole scores."""
    for key, value in tags(digest, methods, own).items():
        store.client.set_model_version_tag(version.name, version.version, key, value)


def samples(version: ModelVersion, digest: str, method: str, work: Path) -> Path:
    """Download a method's samples into `work`."""
    path = f"{folder(digest)}/{method}.parquet"
    return Path(
        mlflow.artifacts.download_artifacts(
            run_id=version.run_id, artifact_path=path, dst_path=str(work / version.run_id)
        )
    )


def evidence(version: ModelVersion, digest: str) -> dict[str, Evidence]:
    """The metrics of every scored method."""
    with tempfile.TemporaryDirectory(prefix="scores-") as work:
        path = f"{folder(digest)}/scores.json"
        found = mlflow.artifacts.download_artifacts(run_id=version.run_id, artifact_path=path, dst_path=work)
        return read_json(Path(found))
