"""Registered versions, each made once.

A version is known by its fingerprint tag. Tags and description are written with the version in one request,
after its files: a version that exists is whole.
"""

import tempfile
from pathlib import Path

from mlflow.entities import LoggedModel, Metric, Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from bonesoup.files import digest, file_digest
from bonesoup.paths import DATA
from bonesoup.registry import card, manifest, runs, scores
from bonesoup.registry.candidates import Candidate
from bonesoup.registry.evidence import report_evidence
from bonesoup.registry.mirror import flatten
from bonesoup.registry.names import versions
from bonesoup.registry.package import Origin, build
from bonesoup.registry.runs import FINGERPRINT
from bonesoup.registry.store import Store


def existing(store: Store, candidate: Candidate) -> ModelVersion | None:
    """The version that has this fingerprint, if the registry holds one."""
    known = versions(store.client, candidate.name)
    return next((version for version in known if version.tags.get(FINGERPRINT) == candidate.fingerprint), None)


def register(store: Store, candidate: Candidate, shared: Origin, parent: Run) -> str:
    """Make a version of the candidate, in a run of its own under `parent`; the version's number."""
    tags = runs.tags("register", candidate.name, shared.code)
    name = f"register@{candidate.name}"
    run = runs.opened(store, name, candidate.fingerprint, tags | {MLFLOW_PARENT_RUN_ID: parent.info.run_id})
    params = {"kind": candidate.kind, "fixed": candidate.fixed, "method": candidate.soup["method"]}
    params |= {"preference": candidate.default, "coefficient": candidate.coefficients}
    runs.log_params(store, run, flatten(params))
    model = store.client.create_logged_model(
        store.experiment, name=candidate.name, source_run_id=run.info.run_id, model_type="pyfunc"
    )
    try:
        text, listing = _send(store, candidate, shared, run, model)
    except BaseException:
        store.client.finalize_logged_model(model.model_id, "FAILED")
        raise
    store.client.finalize_logged_model(model.model_id, "READY")
    _log_evidence(store, candidate, run, model)
    tags = version_tags(candidate, shared)
    if candidate.fronts and shared.yardstick:
        measured = {method: report_evidence(shared.root, method) for method in candidate.fronts}
        scores.upload(store, run.info.run_id, shared.yardstick, candidate.fronts, measured)
        tags |= scores.tags(shared.yardstick, list(candidate.fronts), candidate.evidence)
    try:
        store.client.create_registered_model(candidate.name, {"kind": candidate.kind})
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
            raise
    store.client.set_terminated(run.info.run_id, "FINISHED")
    version = store.client.create_model_version(
        candidate.name,
        f"models:/{model.model_id}",
        run.info.run_id,
        tags=tags | {"manifest": listing},
        description=card.description(text),
        model_id=model.model_id,
    )
    return version.version


def _send(store: Store, candidate: Candidate, shared: Origin, run: Run, model: LoggedModel) -> tuple[str, str]:
    """Upload the version's files; its card, and the SHA-256 of the list of its files."""
    identity = Model(artifact_path=model.artifact_location, run_id=run.info.run_id, model_id=model.model_id)
    # Beside the store rather than in /tmp, which may be small: merged weights are as large as the base.
    work = shared.root / "var"
    work.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="version-", dir=work) as folder:
        made, text = build(candidate, shared, identity, Path(folder))
        store.client.log_model_artifacts(model.model_id, str(made))
        return text, file_digest(made / manifest.MANIFEST)


def _log_evidence(store: Store, candidate: Candidate, run: Run, model: LoggedModel) -> None:
    at = run.info.start_time
    points = [
        Metric(runs.key(name if end == "value" else f"{name}/{end}"), value, at, 0, model_id=model.model_id)
        for name, found in candidate.evidence.items()
        for end, value in found.items()
    ]
    store.client.log_batch(run.info.run_id, metrics=points)


def version_tags(candidate: Candidate, shared: Origin) -> dict[str, str]:
    """What a list of versions shows and a search can ask for; metrics as 'value [low, high]'."""
    tags = {
        FINGERPRINT: candidate.fingerprint,
        "kind": candidate.kind,
        "method": candidate.soup["method"],
        "objectives": ",".join(candidate.soup["objectives"]),
        "git_commit": shared.code.commit,
        "git_dirty": str(shared.code.dirty).lower(),
        "seed": str(shared.settings["seed"]),
        "pipeline": shared.pipeline,
        "data_digest": digest({k: v for k, v in shared.digests.items() if k.startswith(DATA.as_posix())}),
    }
    if shared.yardstick:
        tags["yardstick"] = shared.yardstick
    if candidate.fixed:
        tags["preference"] = ",".join(f"{name}={weight:g}" for name, weight in candidate.default.items())
    for name, found in candidate.evidence.items():
        tags[runs.key(name)] = scores.text(found)
    return tags
