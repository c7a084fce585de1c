"""Mirror finished stages as MLflow runs, each sent once.

Stages and their outputs come from dvc.yaml; the settings each ran with come from dvc.lock.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, Run
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from bonesoup.files import bytes_of, digest, file_digest, read_json, read_jsonl
from bonesoup.paths import REGISTERED, REPORT
from bonesoup.registry import runs
from bonesoup.registry.lineage import Code
from bonesoup.registry.runs import flatten
from bonesoup.registry.scores import report_evidence
from bonesoup.registry.store import Store
from bonesoup.workspace import declared, dvc_lock

# Artifact of the parent run: the fingerprint of each of its stages.
STAGES = "stages.json"
PARENT = "pipeline"
# Larger files stay in out/: DVC keeps them.
ARTIFACT_LIMIT = 50_000_000


@dataclass(frozen=True)
class StageRun:
    """One run to mirror.

    Attributes:
        stage, key: as in dvc.yaml, except that each policy of a group is a separate run with its slot as the key.
        params: the settings the stage ran with, flat.
        metrics: final numbers, flat.
        steps: numbers per step, each row with its "step".
        artifacts: small files, and the folder of the report; never weights.
        fingerprint: digest of settings and outputs; runs with the same fingerprint are the same run.
    """

    stage: str
    key: str
    params: dict[str, Any]
    metrics: dict[str, float]
    steps: Sequence[dict]
    artifacts: list[Path]
    fingerprint: str

    @property
    def name(self) -> str:
        return f"{self.stage}@{self.key}" if self.key else self.stage


def stage_runs(root: Path) -> tuple[list[StageRun], list[str]]:
    """Return the runs of every finished stage, in the order of dvc.yaml, and the names of unfinished stages."""
    recorded = dvc_lock.stages(root / dvc_lock.LOCK)
    finished, missing = [], []
    results = {name: outs for stage in declared.stages(root).values() for name, outs in stage.results().items()}
    for name, outs in results.items():
        if REGISTERED in outs:
            # The stage that sends the runs.
            continue
        if name in recorded and all((root / path).exists() for path in outs):
            finished += _runs(root, name, outs, recorded[name])
        else:
            missing.append(name)
    return finished, missing


def _runs(root: Path, name: str, outs: list[Path], recorded: dict) -> list[StageRun]:
    """Read a finished stage: one run, or one for each policy of a group.

    Args:
        recorded: its entry in dvc.lock.
    """
    stage, _, key = name.partition("@")
    params = flatten(recorded.get("params", {}).get("params.yaml", {}))
    paths = [root / path for path in outs]
    if stage == "policy":
        return [_policy_run(file, key, params) for file in sorted(f for p in paths for f in p.glob("*/policy.json"))]
    # DVC's digests; outputs that it does not cache have none.
    made = [out.get("md5") for out in recorded["outs"]]
    # The report computed the metrics of a method; they belong to the run of its front, where MLflow compares them.
    measured = report_evidence(root, key) if stage == "front" else {}
    numbers = {metric: estimate["value"] for metric, estimate in measured.items()}
    return [_run(stage, key, params, numbers, paths, made)]


def _policy_run(file: Path, group: str, params: dict[str, Any]) -> StageRun:
    """Read a policy's run from its policy.json and the steps.jsonl next to it."""
    facts, folder, steps = read_json(file), file.parent, read_jsonl(file.with_name("steps.jsonl"))
    row = dict(zip(facts["objectives"], facts["row"], strict=True))
    final = {f"final/{name}": value for name, value in flat_numbers(steps[-1]).items()}
    params = params | flatten({"group": group, "row": row})
    return _run("policy", folder.name, params, final, [folder], [file_digest(folder)], steps)


def _run(
    stage: str,
    key: str,
    params: dict[str, Any],
    numbers: dict[str, float],
    outs: list[Path],
    made: list[str | None],
    steps: Sequence[dict] = (),
) -> StageRun:
    """Build a run.

    Args:
        numbers: metrics in addition to those in the records of `outs`.
        made: digests of the outputs.
    """
    records = [path for out in outs for path in _records(stage, out)]
    for path in records:
        numbers = (flat_numbers(read_json(path)) if path.suffix == ".json" else {}) | numbers
    candidates = [*records, *(out for out in outs if out.name == REPORT.name)]
    artifacts = [path for path in candidates if bytes_of(path) <= ARTIFACT_LIMIT]
    return StageRun(stage, key, params, numbers, steps, artifacts, digest(stage, key, params, made, numbers))


def _records(stage: str, out: Path) -> list[Path]:
    """List the results in an output: JSON files and samples, but no texts and no parts of a model.

    In a folder with other files, the record has the name of the stage or is summary.json.
    """
    if out.is_file():
        return [out] if out.suffix == ".json" else []
    files = sorted(path for path in out.iterdir() if path.is_file())
    if all(path.suffix == ".json" for path in files):
        return files
    return [path for path in files if path.name in (f"{stage}.json", "summary.json", "samples.parquet")]


def flat_numbers(value: Any) -> dict[str, float]:
    """Return the numeric leaves of nested dicts; only the artifact has texts, lists and nulls."""
    return {
        name: float(item)
        for name, item in flatten(value).items()
        if isinstance(item, int | float) and not isinstance(item, bool)
    }


def open_parent(store: Store, root: Path, settings: dict, stages: list[StageRun], code: Code) -> Run:
    """Open the parent run of one state of the pipeline, with all settings, params.yaml and dvc.lock."""
    fingerprint = digest(PARENT, settings, [run.fingerprint for run in stages])
    run = runs.opened(store, f"{PARENT} {fingerprint[:8]}", fingerprint, runs.tags(PARENT, "", code))
    if not runs.finished(run):
        runs.log_params(store, run, flatten(settings))
        for path in [root / "params.yaml", root / dvc_lock.LOCK]:
            if path.exists():
                store.client.log_artifact(run.info.run_id, str(path))
        if code.dirty:
            store.client.log_text(run.info.run_id, code.changes, "changes.diff")
        listing = {run.name: run.fingerprint for run in stages}
        store.client.log_dict(run.info.run_id, listing, STAGES)
    return run


def send_all(
    store: Store, stages: list[StageRun], parent: Run, code: Code, echo: Callable[[str], None]
) -> tuple[list[str], list[str]]:
    """Send every run that the store lacks; return (names sent, names it had)."""
    sent, had = [], []
    for stage in stages:
        run = runs.find(store, stage.fingerprint)
        if runs.finished(run):
            had.append(stage.name)
            continue
        start = time.monotonic()
        tags = runs.tags(stage.stage, stage.key, code) | {MLFLOW_PARENT_RUN_ID: parent.info.run_id}
        send(store, run or runs.opened(store, stage.name, stage.fingerprint, tags), stage)
        sent.append(stage.name)
        echo(f"{stage.name}: run sent ({time.monotonic() - start:.1f} s)")
    return sent, had


def send(store: Store, run: Run, stage: StageRun) -> None:
    """Send metrics and artifacts of a stage to its run, and mark the run finished."""
    runs.log_params(store, run, stage.params)
    # All points of a run have the same time, so that sending them twice changes nothing.
    at = run.info.start_time
    points = [Metric(runs.key(name), value, at, 0) for name, value in stage.metrics.items()]
    for row in stage.steps:
        points += [
            Metric(runs.key(name), float(value), at, int(row["step"]))
            for name, value in row.items()
            if name != "step" and isinstance(value, int | float)
        ]
    runs.log_metrics(store, run.info.run_id, points)
    for path in stage.artifacts:
        if path.is_dir():
            store.client.log_artifacts(run.info.run_id, str(path), path.name)
        else:
            store.client.log_artifact(run.info.run_id, str(path))
    store.client.set_terminated(run.info.run_id, "FINISHED")
