"""List what the registry holds from the tags of its versions alone, without downloads."""

from datetime import UTC, datetime
from typing import Any

from mlflow.entities.model_registry import ModelVersion

from bonesoup.evaluation.units import UNITS
from bonesoup.registry import yardstick
from bonesoup.registry.scores import SCORED, UNITLESS, parse, scored
from bonesoup.registry.store import Store
from bonesoup.registry.versions import DECISION, PREVIOUS, models, soup_name, versions


def listing(store: Store, prefix: str) -> dict[str, Any]:
    """Return {"yardstick": digest of the current one, "models": {name: [version, newest first]}}, the soup first."""
    adopted = yardstick.current(store, prefix)
    names = [model.name for model in models(store, prefix)]
    names.sort(key=lambda name: (name != soup_name(prefix), name))
    listed = {name: [entry(version) for version in reversed(versions(store.client, name))] for name in names}
    return {"yardstick": adopted.tags[yardstick.DIGEST] if adopted else None, "models": listed}


def entry(version: ModelVersion) -> dict[str, Any]:
    """Describe one version as plain data."""
    tags = version.tags
    digests = [key.removeprefix(SCORED) for key in tags if key.startswith(SCORED)]
    return {
        "version": int(version.version),
        "aliases": sorted(version.aliases),
        "kind": tags.get("kind"),
        "objectives": tags.get("objectives", "").split(","),
        "preference": tags.get("preference"),
        "created": datetime.fromtimestamp(version.creation_timestamp / 1000, UTC).isoformat(timespec="seconds"),
        "metrics": _metrics(tags, ""),
        "yardstick": tags.get("yardstick"),
        "scores": {
            digest: {
                "methods": scored(version, digest),
                "metrics": _metrics(tags, f"{digest}/"),
                "prompts": tags.get(f"prompts/{digest}"),
            }
            for digest in digests
        },
        "decision": tags.get(DECISION),
        "previous_champion": tags.get(PREVIOUS),
        "lineage": {key: tags.get(key) for key in ("git_commit", "git_dirty", "seed", "data_digest", "pipeline")},
    }


def _metrics(tags: dict[str, str], prefix: str) -> dict[str, dict[str, float]]:
    texts = {key.removeprefix(prefix): text for key, text in tags.items() if key.startswith(prefix)}
    # A tag cannot hold the @ of hypervolume@-1.
    return {
        name.replace("hypervolume_", "hypervolume@"): parse(text)
        for name, text in texts.items()
        if name.partition("/")[0] in UNITS or name in UNITLESS
    }
