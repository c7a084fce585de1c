"""Bring MLflow up to date with out/: every run and version that it lacks, and nothing twice."""

import time
from collections.abc import Callable
from pathlib import Path

from ruamel.yaml import YAML

from bonesoup.config import Register
from bonesoup.tracking import lineage, registry, runs
from bonesoup.tracking.candidates import candidates
from bonesoup.tracking.pipeline import stage_runs
from bonesoup.tracking.store import connect, nothing_lost, shown, tracking_uri
from bonesoup.tracking.version import origin


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
        {"runs": {"sent", "had", "missing"}: names, "models": {name: {"version": int, "new": bool}}}.

    Raises:
        ConnectionError: the store does not answer; nothing is lost.
    """
    root = Path(root).absolute()
    settings = YAML(typ="safe").load(settings_text)
    uri = tracking_uri(root)
    store = connect(root, register.name)
    echo(f"MLflow store: {shown(uri)}, experiment {register.name}")
    found, missing = stage_runs(root, settings, objectives, settings["methods"], list(settings["policies"]))
    versions = candidates(root, settings, register.name, register.merged, objectives, preferences)
    code = lineage.code(root)
    models = {}
    with nothing_lost(uri):
        parent = runs.open_parent(store, root, settings, found, code)
        sent, had = runs.mirror(store, found, parent, code, echo)
        shared = origin(root, settings_text, settings, preferences, code) if versions else None
        for candidate in versions:
            known = registry.existing(store, candidate)
            start = time.monotonic()
            version = known or registry.register(store, candidate, shared, parent)
            models[candidate.name] = {"version": int(version), "new": known is None}
            if known is None:
                echo(f"{candidate.name}: version {version} registered ({time.monotonic() - start:.1f} s)")
        store.client.set_terminated(parent.info.run_id, "FINISHED")
    made = sum(model["new"] for model in models.values())
    echo(f"runs: {len(sent)} sent, {len(had)} there already")
    echo(f"versions: {made} registered, {len(models) - made} there already")
    if missing:
        echo(f"not made yet, so not sent: {', '.join(missing)}")
    return {"runs": {"sent": sent, "had": had, "missing": missing}, "models": models}
