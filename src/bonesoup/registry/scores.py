"""A version's scores on a yardstick: samples and metrics in its run, short tags for listings.

    yardsticks/<digest>/<method>.parquet   one row per preference and prompt, as in out/fronts/<method>/samples.parquet
    yardsticks/<digest>/scores.json        metrics with intervals, by method
    metrics yardstick/<digest>/<method>/<metric>, and the tags below on the version

Needs no torch. Registration stores what the report measured; promotion/scoring.py measures the rest.
"""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import mlflow
from mlflow.entities import Metric
from mlflow.entities.model_registry import ModelVersion

from bonesoup.evaluation.units import UNITS
from bonesoup.files import read_json
from bonesoup.method.methods import BASELINE, SFT
from bonesoup.paths import METRICS
from bonesoup.registry import runs
from bonesoup.registry.store import Store

Evidence = dict[str, dict[str, float]]  # metric -> value, low, high
# A soup is compared with these: the method it has to beat, and the policy that all start from.
BESIDE = (BASELINE, SFT)
# Measured on the responses, independent of the scorer.
UNITLESS = ("kl", "tokens")
# Version tag: the methods with scores on that yardstick.
SCORED = "yardstick/"
# Metrics that would only clutter the tags: scores.json has them.
DETAIL = ("hypervolume", "cardinality", "sparsity", "spacing")


def key_of(unit: str, metric: str) -> str:
    """Return a metric's name in the registry: '<unit>/<metric>', or the metric alone if no unit applies."""
    return metric if metric in UNITLESS else f"{unit}/{metric}"


def report_evidence(root: Path, method: str) -> Evidence:
    """Read a method's metrics on the full grid from out/metrics/report.json; empty if there is no report."""
    file = root / METRICS / "report.json"
    if not file.is_file():
        return {}
    grid = read_json(file)["grids"]["full_grid"]
    return {
        key_of(unit, metric): estimate
        for unit in UNITS
        if unit in grid
        for metric, estimate in grid[unit]["methods"].get(method, {}).items()
    }


def scored(version: ModelVersion, digest: str) -> list[str]:
    """List the methods of a version that have scores on a yardstick."""
    return [name for name in version.tags.get(SCORED + digest, "").split(",") if name]


def text(estimate: dict[str, float]) -> str:
    """Format an estimate as 'value [low, high]', to four digits."""
    return f"{estimate['value']:.4g} [{estimate['low']:.4g}, {estimate['high']:.4g}]"


def parse(text: str) -> dict[str, float]:
    """Read an estimate that `text` wrote."""
    value, low, high = map(float, text.replace("[", "").replace("]", "").replace(",", "").split())
    return {"value": value, "low": low, "high": high}


def tags(digest: str, methods: list[str], evidence: Evidence) -> dict[str, str]:
    """Return the tags of a scored version.

    Args:
        evidence: metrics of the version's method.
    """
    shown = {name: estimate for name, estimate in evidence.items() if not name.rpartition("/")[2].startswith(DETAIL)}
    return {runs.key(f"{digest}/{name}"): text(estimate) for name, estimate in shown.items()} | {
        SCORED + digest: ",".join(methods)
    }


def points(evidence: Evidence, time: int, prefix: str = "", model: str | None = None) -> Iterator[Metric]:
    """Turn evidence into MLflow metrics: '<metric>', '<metric>/low' and '<metric>/high'."""
    for name, estimate in evidence.items():
        for end, value in estimate.items():
            key = runs.key(prefix + (name if end == "value" else f"{name}/{end}"))
            yield Metric(key, value, time, 0, model_id=model)


def upload(store: Store, run_id: str, digest: str, samples: dict[str, Path], evidence: dict[str, Evidence]) -> None:
    """Send samples (method -> parquet) and metrics (method -> evidence) to a version's run."""
    with tempfile.TemporaryDirectory(prefix="scores-") as work:
        for method, path in samples.items():
            shutil.copyfile(path, Path(work) / f"{method}.parquet")
        store.client.log_artifacts(run_id, work, folder(digest))
    store.client.log_dict(run_id, evidence, f"{folder(digest)}/scores.json")
    time = store.client.get_run(run_id).info.start_time
    rows = [
        point
        for method, metrics in evidence.items()
        for point in points(metrics, time, f"yardstick/{digest}/{method}/")
    ]
    runs.log_metrics(store, run_id, rows)


def mark(store: Store, version: ModelVersion, digest: str, methods: list[str], evidence: Evidence) -> None:
    """Tag a version as scored. Call this last, so that a tag means complete scores."""
    for key, value in tags(digest, methods, evidence).items():
        store.client.set_model_version_tag(version.name, version.version, key, value)


def samples(version: ModelVersion, digest: str, method: str, work: Path) -> Path:
    """Download a method's samples into `work`."""
    return _download(version, f"{folder(digest)}/{method}.parquet", work / version.run_id)


def evidence(version: ModelVersion, digest: str) -> dict[str, Evidence]:
    """Download the metrics of every scored method."""
    with tempfile.TemporaryDirectory(prefix="scores-") as work:
        return read_json(_download(version, f"{folder(digest)}/scores.json", Path(work)))


def folder(digest: str) -> str:
    """Return the folder of a yardstick's scores in a run."""
    return f"yardsticks/{digest}"


def _download(version: ModelVersion, path: str, into: Path) -> Path:
    return Path(mlflow.artifacts.download_artifacts(run_id=version.run_id, artifact_path=path, dst_path=str(into)))
