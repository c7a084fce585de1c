"""Bring MLflow up to date with out/: every run and version that it lacks, and nothing twice."""

import time
from collections.abc import Callable
from pathlib import Path

from mlflow.entities import Run
from ruamel.yaml import YAML

from bonesoup.files import read_json
from bonesoup.paths import METRICS
from bonesoup.registry import adoption, lineage, runs, versions, yardstick
from bonesoup.registry.candidates import Candidate, candidates
from bonesoup.registry.mirror import stage_runs
from bonesoup.registry.package import origin
from bonesoup.registry.store import Store, connect, nothing_lost, shown, tracking_uri
from bonesoup.settings.schema import Register


def register_all(
    root: Path,
    settings_text: str,
    register: Register,
    objectives: list[str],
    preferences: dict[str, dict[str, float]],
    echo: Callable[[str], None],
) -> dict:
    """Mirror every stage that is done as a run, and register backbones, soup and merged soups.

    Idempotent: what the store has (by fingerprint) is left alone. Safe to stop at any moment and call again.

    Args:
        root: of the project; files are read from its out/.
        settings_text: params.yaml, valid.
        register: name of experiment and models; the preferences that get merged weights.
        preferences: named ones, over `objectives`.
        echo: called with each line of progress.

    Returns:
        {"store", "experiment", "run": where the parent run is, "runs": {"sent", "had", "missing"}: names,
        "models": {name: {"version": int, "new": bool}}}.

    Raises:
        ConnectionError: the store does not answer; nothing is lost.
    """
    root = Path(root).absolute()
    settings = YAML(typ="safe").load(settings_text)
    uri = tracking_uri(root)
    store = connect(root, register.name)
    echo(f"MLflow store: {shown(uri)}, experiment {register.name}")
    found, missing = stage_runs(root, settings, objectives, settings["methods"], list(settings["policies"]))
    own = yardstick.of_pipeline(root, settings)
    report = root / METRICS / "report.json"
    if own and report.is_file() and (change := yardstick.unlike(own, read_json(report))):
        echo(f"out/ was evaluated with other settings ({change}): its scores count for no yardstick")
        own = None
    judged = own.digest if own else None
    wanted = candidates(root, settings, register.name, register.merged, objectives, preferences, judged)
    code = lineage.code(root)
    models = {}
    with nothing_lost(uri):
        parent = runs.open_parent(store, root, settings, found, code)
        sent, had = runs.mirror(store, found, parent, code, echo)
        if wanted:
            if own and adoption.current(store, register.name) is None:
                adoption.adopt(store, register.name, root, own, adoption.FIRST, code)
                echo(f"yardstick {own.digest} adopted: the first of {register.name}")
            pipeline = _pipeline(store, wanted, parent)
            shared = origin(root, settings_text, settings, preferences, code, judged, pipeline)
        for candidate in wanted:
            known = versions.existing(store, candidate)
            start = time.monotonic()
            version = known.version if known else versions.register(store, candidate, shared, parent)
            models[candidate.name] = {"version": int(version), "new": known is None}
            if known is None:
                echo(f"{candidate.name}: version {version} registered ({time.monotonic() - start:.1f} s)")
        store.client.set_terminated(parent.info.run_id, "FINISHED")
    made = sum(model["new"] for model in models.values())
    echo(f"runs: {len(sent)} sent, {len(had)} there already")
    echo(f"versions: {made} registered, {len(models) - made} there already")
    if missing:
        echo(f"not made yet, so not sent: {', '.join(missing)}")
    where = {"store": shown(uri), "experiment": store.experiment, "run": parent.info.run_id}
    return where | {"runs": {"sent": sent, "had": had, "missing": missing}, "models": models}


def _pipeline(store: Store, wanted: list[Candidate], parent: Run) -> str:
    """What ties these versions together: the parent's fingerprint, or that of the run whose soup this is already.

    A setting that changes no version makes another parent; a merged model added then belongs to the soup there is.
    """
    soup = next(candidate for candidate in wanted if candidate.kind == "soup")
    known = versions.existing(store, soup)
    return (known and known.tags.get("pipeline")) or parent.data.tags[runs.FINGERPRINT]
