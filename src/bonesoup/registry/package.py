"""The folder of one version: a pyfunc with weights, recipe, code, signature, example, card and lineage."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import Object, Property

import bonesoup
from bonesoup.files import read_json, write_json
from bonesoup.method.methods import BASELINE, MAIN
from bonesoup.method.preferences import preference_faults
from bonesoup.paths import DATA, MEASURED, METRICS, NORMALISER, REWARDS, SFT, SOUPS, SUMMARY
from bonesoup.registry import card, lineage, manifest
from bonesoup.registry.candidates import CHECKPOINT, Candidate, merge

STEERABLE = Path(__file__).with_name("steerable.py")
EXAMPLE = "How do I bake bread?"
# Rows generated at a time by a served model.
BATCH = 32


@dataclass(frozen=True)
class Origin:
    """What all versions of one registration share.

    Attributes:
        settings_text, settings: params.yaml, and the same as plain data.
        digests: SHA-256 of data files, reward models, normaliser and SFT policy, by path.
        yardstick: digest of the one the run was evaluated on; None where it was not.
        pipeline: what ties the versions of one run together.
    """

    root: Path
    settings_text: str
    settings: dict
    preferences: dict[str, dict[str, float]]
    code: lineage.Code
    digests: dict[str, str]
    yardstick: str | None
    pipeline: str


def origin(
    root: Path,
    settings_text: str,
    settings: dict,
    preferences: dict,
    code: lineage.Code,
    yardstick: str | None,
    pipeline: str,
) -> Origin:
    data = [root / settings["data"]["path"], *sorted((root / DATA).rglob("*.json*"))]
    rewards = [root / REWARDS / name for name in settings["objectives"]]
    found = lineage.digests(root, [*data, *rewards, root / NORMALISER, root / SFT])
    return Origin(root, settings_text, settings, preferences, code, found, yardstick, pipeline)


def build(candidate: Candidate, shared: Origin, identity: Model, work: Path) -> tuple[Path, str]:
    """Write the version's folder under `work`; (folder, card).

    Args:
        identity: MLflow's record of the model, written into the folder as MLmodel.
    """
    text = card.render(shared.root / card.TEMPLATE, card_values(candidate, shared))
    work.mkdir(parents=True, exist_ok=True)
    recipes = {"soup": work / "soup.json"}
    write_json(recipes["soup"], candidate.soup)
    if candidate.rewarded:
        recipes[BASELINE] = work / f"{BASELINE}.json"
        write_json(recipes[BASELINE], candidate.rewarded)
    folders = candidate.folders
    if candidate.kind == "merged":
        merge(shared.root, candidate.coefficients, work / CHECKPOINT)
        (work / CHECKPOINT / "README.md").write_text(text)
        folders = {CHECKPOINT: work / CHECKPOINT}
    folder = work / "model"
    mlflow.pyfunc.save_model(
        path=folder,
        mlflow_model=identity,
        python_model=str(STEERABLE),
        code_paths=[str(Path(bonesoup.__file__).parent)],
        artifacts={name: str(path.absolute()) for name, path in (folders | recipes).items()},
        model_config=model_config(candidate, shared),
        signature=signature(candidate, shared),
        input_example=([EXAMPLE], {"preference": candidate.default}),
        # Given, because MLflow otherwise loads the model in a subprocess to find them.
        pip_requirements=lineage.requirements(),
    )
    (folder / "README.md").write_text(text)
    write_lineage(candidate, shared, folder / "lineage")
    manifest.write(folder)
    return folder, text


def model_config(candidate: Candidate, shared: Origin) -> dict[str, Any]:
    """What steerable.py reads; load_model(uri, model_config={...}) can override it."""
    own = {
        name: weights
        for name, weights in shared.preferences.items()
        if not preference_faults(weights, candidate.soup["objectives"])
    }
    generation = shared.settings["generation"]
    return {
        "preferences": own,
        "default": candidate.default,
        "fixed": candidate.fixed,
        "temperature": generation["temperature"],
        "max_new_tokens": generation["max_new_tokens"],
        "batch": BATCH,
        "device": "auto",
    }


def signature(candidate: Candidate, shared: Origin) -> ModelSignature:
    """One column of strings, nameless so that a list and a DataFrame fit; the preference is an object."""
    weights = Object([Property(name, DataType.double, required=False) for name in candidate.soup["objectives"]])
    generation = shared.settings["generation"]
    parameters = [
        ParamSpec("preference", weights, candidate.default),
        # A parameter has one type: names and 'a=0.7,b=0.3' go here.
        ParamSpec("named", DataType.string, ""),
        ParamSpec("max_new_tokens", DataType.long, generation["max_new_tokens"]),
        ParamSpec("temperature", DataType.double, float(generation["temperature"])),
        ParamSpec("seed", DataType.long, 0),
    ]
    column = Schema([ColSpec(DataType.string)])
    return ModelSignature(inputs=column, outputs=column, params=ParamSchema(parameters))


def write_lineage(candidate: Candidate, shared: Origin, folder: Path) -> None:
    folder.mkdir()
    (folder / "params.yaml").write_text(shared.settings_text)
    for path in (shared.root / "dvc.lock", shared.root / METRICS / "report.json", shared.root / MEASURED):
        if path.exists():
            shutil.copy(path, folder)
    if shared.code.dirty:
        (folder / "changes.diff").write_text(shared.code.changes)
    facts = {
        "name": candidate.name,
        "kind": candidate.kind,
        "fingerprint": candidate.fingerprint,
        "bonesoup": bonesoup.__version__,
        "git": {"commit": shared.code.commit, "dirty": shared.code.dirty},
        "policies": {slot: own for slot, own in adapter_facts(shared).items() if used(candidate, slot)},
        BASELINE: _facts(candidate.rewarded) if candidate.rewarded else {},
        "coefficients": candidate.coefficients,
        "metrics": candidate.evidence,
        "yardstick": shared.yardstick,
        "pipeline": shared.pipeline,
        "sha256": shared.digests,
        "environment": lineage.environment(),
    }
    write_json(folder / "lineage.json", facts)


def used(candidate: Candidate, slot: str) -> bool:
    return slot in candidate.coefficients or slot in candidate.folders


def adapter_facts(shared: Origin) -> dict[str, dict]:
    """Row and digest of every policy of the registered soup, as the soup file names them."""
    return _facts(read_json(shared.root / SOUPS / f"{MAIN}.json"))


def _facts(soup: dict) -> dict[str, dict]:
    return {p["slot"]: {"row": p["row"], "sha256": p["digest"]} for p in soup["policies"]}


def card_values(candidate: Candidate, shared: Origin) -> dict[str, Any]:
    """The names that the card's template may use."""
    settings, out = shared.settings, shared.root
    objectives, scale = candidate.soup["objectives"], candidate.soup.get("scale") or []
    rewards = {}
    for name in objectives:
        measured = out / METRICS / f"reward-{name}.json"
        rewards[name] = settings["rewards"][name] | (read_json(measured) if measured.is_file() else {})
    policies = [
        {"slot": slot, "row": dict(zip(objectives, facts["row"], strict=True))}
        for slot, facts in adapter_facts(shared).items()
        if used(candidate, slot)
    ]
    summary = out / SUMMARY
    named = next(iter(shared.preferences), None)
    return {
        "name": candidate.name,
        "kind": candidate.kind,
        "version": bonesoup.__version__,
        "objectives": objectives,
        "recipe": policies,
        "coefficients": candidate.coefficients,
        "scale": dict(zip(objectives, scale, strict=True)) if any(value != 1 for value in scale) else {},
        "default": candidate.default,
        "named": named,
        "text": ",".join(f"{name}={weight:g}" for name, weight in candidate.default.items()),
        "evidence": candidate.evidence,
        "gold": any(name.startswith("gold/") for name in candidate.evidence),
        "rewarded": bool(candidate.rewarded),
        "confidence": settings["evaluation"]["confidence"],
        "data": {"hub": None, "revision": None} | settings["data"],
        "summary": read_json(summary) if summary.is_file() else None,
        "rewards": rewards,
        "rl": settings["rl"],
        "generation": settings["generation"],
        "code": shared.code,
        "base": candidate.soup["base"],
        "checkpoint": CHECKPOINT,
    }
