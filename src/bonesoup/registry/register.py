"""Bring MLflow up to date with out/: send every run and version that it lacks, each once.

A fingerprint tag identifies a version. Tags and description are written in the request that creates the version, after
its files: a version that exists is complete.
"""

import time
from collections.abc import Callable
from pathlib import Path

from mlflow.entities import LoggedModel, Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.models import Model
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from ruamel.yaml import YAML

from bonesoup.files import digest, file_digest, read_json, work_folder
from bonesoup.method.preferences import format_weights
from bonesoup.paths import DATA, METRICS, SFT
from bonesoup.registry import bases, lineage, manifest, mirror, runs, scores, yardstick
from bonesoup.registry.candidates import Candidate, candidates
from bonesoup.registry.card import card, description
from bonesoup.registry.package import Origin, build
from bonesoup.registry.runs import FINGERPRINT
from bonesoup.registry.store import Store, connect, nothing_lost, shown, tracking_uri
from bonesoup.registry.versions import ensure_model, reference, versions
from bonesoup.settings.schema import Register


def register_all(
    root: Path,
    settings_text: str,
    register: Register,
    preferences: dict[str, dict[str, float]],
    echo: Callable[[str], None],
) -> dict:
    """Mirror every finished stage as a run, and register backbones, soup and merged soups.

    Idempotent: runs and versions that the store has (by fingerprint) are left alone. Safe to stop at any moment and
    call again.

    Args:
        root: the project's folder; files are read from its out/.
        settings_text: params.yaml, valid.
        register: the soup to register, name of experiment and models, preferences to register as merged weights.
        preferences: named preferences.
        echo: called with each line of progress.

    Returns:
        {"store", "experiment", "run": id of the parent run, "runs": {"sent", "had", "missing"}: names,
        "models": {name: {"version": int, "new": bool}}}.

    Raises:
        ConnectionError: the store does not answer; nothing is lost.
        RuntimeError: the store refuses a request; nothing is lost.
    """
    root = root.absolute()
    settings = YAML(typ="safe").load(settings_text)
    uri = tracking_uri(root)
    store = connect(root, register.name)
    echo(f"MLflow store: {shown(uri)}, experiment {register.name}")
    stages, missing = mirror.stage_runs(root)
    measure = _yardstick(root, settings, echo)
    measure_digest = measure.digest if measure else None
    wanted = candidates(root, settings, register, preferences, measure_digest)
    code, models = lineage.code(root), {}
    with nothing_lost(uri):
        parent = mirror.open_parent(store, root, settings, stages, code)
        sent, had = mirror.send_all(store, stages, parent, code, echo)
        if wanted:
            if measure and yardstick.current(store, register.name) is None:
                yardstick.adopt(store, register.name, root, measure, yardstick.FIRST, code)
                echo(f"yardstick {measure.digest} adopted: the first of {register.name}")
            have = {candidate.name: existing(store, candidate) for candidate in wanted}
            base = _base(store, register.name, root, wanted, have, code, echo)
            digests, pipeline = lineage.digests(root, settings), _pipeline(wanted, have, parent)
            origin = Origin(root, settings_text, settings, preferences, code, digests, measure_digest, pipeline, base)
            for candidate in wanted:
                known = have[candidate.name]
                start = time.monotonic()
                version = known or add(store, candidate, origin, parent)
                models[candidate.name] = {"version": int(version.version), "new": known is None}
                if known is None:
                    echo(f"{candidate.name}: version {version.version} registered ({time.monotonic() - start:.1f} s)")
            # `bonesoup clean` may have deleted the base while no version named it yet.
            _base(store, register.name, root, wanted, have, code, echo)
        store.client.set_terminated(parent.info.run_id, "FINISHED")
    made = sum(model["new"] for model in models.values())
    echo(f"runs: {len(sent)} sent, {len(had)} there already")
    echo(f"versions: {made} registered, {len(models) - made} there already")
    if missing:
        echo(f"not made yet, so not sent: {', '.join(missing)}")
    where = {"store": shown(uri), "experiment": store.experiment, "run": parent.info.run_id}
    return where | {"runs": {"sent": sent, "had": had, "missing": missing}, "models": models}


def _yardstick(root: Path, settings: dict, echo: Callable[[str], None]) -> yardstick.Yardstick | None:
    """Return the yardstick the report was measured on; None if there is none, or settings have changed since."""
    present = yardstick.of_pipeline(root, settings)
    report = root / METRICS / "report.json"
    if present and report.is_file() and (change := yardstick.difference(present, read_json(report))):
        echo(f"out/ was evaluated with other settings ({change}): its scores are not recorded")
        return None
    return present


def _pipeline(wanted: list[Candidate], have: dict[str, ModelVersion | None], parent: Run) -> str:
    """Return the tag that ties these versions: the parent's fingerprint, or the tag of the same soup registered before.

    A setting that changes no version still makes a new parent; a merged model added then belongs to the existing soup.
    """
    known = next(have[candidate.name] for candidate in wanted if candidate.kind == "soup")
    return (known and known.tags.get("pipeline")) or parent.data.tags[FINGERPRINT]


def _base(
    store: Store,
    prefix: str,
    root: Path,
    wanted: list[Candidate],
    have: dict[str, ModelVersion | None],
    code: lineage.Code,
    echo: Callable[[str], None],
) -> str | None:
    """Send the base that the versions name, unless the registry has it; return its reference.

    None if no version names one: early versions hold their base themselves, and merged weights need none.
    """
    for candidate in wanted:
        known = have[candidate.name]
        if candidate.base and (known is None or bases.BASE in known.tags):
            return reference(bases.publish(store, prefix, root / SFT, candidate.base, code, echo))
    return None


def existing(store: Store, candidate: Candidate) -> ModelVersion | None:
    """Return the version with the candidate's fingerprint; None if the registry has none."""
    known = versions(store.client, candidate.name)
    return next((version for version in known if version.tags.get(FINGERPRINT) == candidate.fingerprint), None)


def add(store: Store, candidate: Candidate, origin: Origin, parent: Run) -> ModelVersion:
    """Register the candidate as a new version, in a separate run under `parent`."""
    client = store.client
    tags = runs.tags("register", candidate.name, origin.code) | {MLFLOW_PARENT_RUN_ID: parent.info.run_id}
    run = runs.opened(store, f"register@{candidate.name}", candidate.fingerprint, tags)
    run_id = run.info.run_id
    params = {"kind": candidate.kind, "fixed": candidate.fixed, "method": candidate.soup["method"]}
    params |= {"preference": candidate.default, "coefficient": candidate.coefficients}
    runs.log_params(store, run, runs.flatten(params))
    text = card(candidate, origin)
    model = client.create_logged_model(store.experiment, name=candidate.name, source_run_id=run_id, model_type="pyfunc")
    try:
        listing = _send(store, candidate, origin, text, run, model)
    except BaseException:
        client.finalize_logged_model(model.model_id, "FAILED")
        raise
    client.finalize_logged_model(model.model_id, "READY")
    points = scores.points(candidate.evidence, run.info.start_time, model=model.model_id)
    runs.log_metrics(store, run_id, list(points))
    tags = version_tags(candidate, origin) | {"manifest": listing}
    if candidate.fronts and origin.yardstick:
        measured = {method: scores.report_evidence(origin.root, method) for method in candidate.fronts}
        scores.upload(store, run_id, origin.yardstick, candidate.fronts, measured)
        tags |= scores.tags(origin.yardstick, list(candidate.fronts), candidate.evidence)
    ensure_model(client, candidate.name, candidate.kind)
    client.set_terminated(run_id, "FINISHED")
    return client.create_model_version(
        candidate.name,
        f"models:/{model.model_id}",
        run_id,
        tags=tags,
        description=description(text),
        model_id=model.model_id,
    )


def _send(store: Store, candidate: Candidate, origin: Origin, text: str, run: Run, model: LoggedModel) -> str:
    """Upload the version's files; return the SHA-256 of their list."""
    identity = Model(artifact_path=model.artifact_location, run_id=run.info.run_id, model_id=model.model_id)
    with work_folder(origin.root) as work:
        folder = build(candidate, origin, text, identity, work)
        store.client.log_model_artifacts(model.model_id, str(folder))
        return file_digest(folder / manifest.MANIFEST)


def version_tags(candidate: Candidate, origin: Origin) -> dict[str, str]:
    """Return the tags that listings show and searches use; metrics as 'value [low, high]'."""
    tags = {
        FINGERPRINT: candidate.fingerprint,
        "kind": candidate.kind,
        "method": candidate.soup["method"],
        "objectives": ",".join(candidate.soup["objectives"]),
        "git_commit": origin.code.commit,
        "git_dirty": str(origin.code.dirty).lower(),
        "seed": str(origin.settings["seed"]),
        "pipeline": origin.pipeline,
        "data_digest": digest({k: v for k, v in origin.digests.items() if k.startswith(DATA.as_posix())}),
    }
    if candidate.base:
        tags[bases.BASE] = candidate.base
    if origin.yardstick:
        tags["yardstick"] = origin.yardstick
    if candidate.fixed:
        tags["preference"] = format_weights(candidate.default)
    return tags | {runs.key(name): scores.text(estimate) for name, estimate in candidate.evidence.items()}
