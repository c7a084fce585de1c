"""Build the folder of a version: a pyfunc with adapters, recipe, code, signature, example, card and lineage."""

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
from bonesoup.method.methods import BASELINE
from bonesoup.method.preferences import preference_faults
from bonesoup.paths import MEASURED, METRICS, SOUPS
from bonesoup.registry import bases, lineage, manifest
from bonesoup.registry.candidates import CHECKPOINT, Candidate, merge
from bonesoup.workspace.dvc_lock import LOCK

STEERABLE = Path(__file__).with_name("steerable.py")
EXAMPLE = "How do I bake bread?"
# Rows that a served model generates at a time.
BATCH = 32


@dataclass(frozen=True)
class Origin:
    """The facts that all versions of one registration share.

    Attributes:
        settings_text, settings: params.yaml as text and as plain data.
        digests: SHA-256 of data files, reward models, normaliser and SFT policy, by path.
        yardstick: digest of the yardstick that the run was evaluated on; None if it was not.
        pipeline: tag that ties the versions of one run together.
        base: the version that holds their base, such as bonesoup-base/1.
    """

    root: Path
    settings_text: str
    settings: dict
    preferences: dict[str, dict[str, float]]
    code: lineage.Code
    digests: dict[str, str]
    yardstick: str | None
    pipeline: str
    base: str | None = None


def build(candidate: Candidate, origin: Origin, card: str, identity: Model, work: Path) -> Path:
    """Write the version's folder under `work` and return it.

    Args:
        identity: MLflow's record of the model, written into the folder as MLmodel.
    """
    work.mkdir(parents=True, exist_ok=True)
    recipes = {"soup": work / "soup.json"}
    write_json(recipes["soup"], candidate.soup)
    if candidate.rewarded:
        recipes[BASELINE] = work / f"{BASELINE}.json"
        write_json(recipes[BASELINE], candidate.rewarded)
    folders = candidate.folders
    if candidate.kind == "merged":
        merge(origin.root, candidate.soup["method"], candidate.coefficients, work / CHECKPOINT)
        (work / CHECKPOINT / "README.md").write_text(card)
        folders = {CHECKPOINT: work / CHECKPOINT}
    # The package brings adapters for its demo, which no version needs.
    ignored = shutil.ignore_patterns("__pycache__", "*.safetensors")
    code = shutil.copytree(Path(bonesoup.__file__).parent, work / "bonesoup", ignore=ignored)
    folder = work / "model"
    mlflow.pyfunc.save_model(
        path=folder,
        mlflow_model=identity,
        python_model=str(STEERABLE),
        code_paths=[str(code)],
        artifacts={name: str(path.absolute()) for name, path in (folders | recipes).items()},
        model_config=model_config(candidate, origin),
        signature=signature(candidate, origin),
        input_example=([EXAMPLE], {"preference": candidate.default}),
        # Passed in, because MLflow would load the model in a subprocess to find them.
        pip_requirements=lineage.requirements(),
    )
    (folder / "README.md").write_text(card)
    write_lineage(candidate, origin, folder / "lineage")
    manifest.write(folder)
    return folder


def model_config(candidate: Candidate, origin: Origin) -> dict[str, Any]:
    """Return the settings that steerable.py reads; load_model(uri, model_config={...}) overrides them."""
    objectives, generation = candidate.soup["objectives"], origin.settings["generation"]
    base = {bases.BASE: candidate.base} if candidate.base else {}
    return base | {
        "preferences": {name: w for name, w in origin.preferences.items() if not preference_faults(w, objectives)},
        "default": candidate.default,
        "fixed": candidate.fixed,
        "temperature": generation["temperature"],
        "max_new_tokens": generation["max_new_tokens"],
        "batch": BATCH,
        "device": "auto",
    }


def signature(candidate: Candidate, origin: Origin) -> ModelSignature:
    """Describe the parameters and the input: a nameless column of strings, which fits both a list and a DataFrame."""
    weights = Object([Property(name, DataType.double, required=False) for name in candidate.soup["objectives"]])
    generation = origin.settings["generation"]
    parameters = [
        ParamSpec("preference", weights, candidate.default),
        # A parameter has one type, so names and 'a=0.7,b=0.3' get this parameter.
        ParamSpec("named", DataType.string, ""),
        ParamSpec("max_new_tokens", DataType.long, generation["max_new_tokens"]),
        ParamSpec("temperature", DataType.double, float(generation["temperature"])),
        ParamSpec("seed", DataType.long, 0),
    ]
    column = Schema([ColSpec(DataType.string)])
    return ModelSignature(inputs=column, outputs=column, params=ParamSchema(parameters))


def policies(candidate: Candidate, origin: Origin) -> dict[str, dict]:
    """Return row and digest of every policy that a version uses, by slot, and the others that it was made with."""
    every = _facts(read_json(origin.root / SOUPS / f"{candidate.soup['method']}.json"))
    used = candidate.coefficients.keys() | candidate.folders.keys()
    return {slot: facts for slot, facts in every.items() if slot in used}


def _facts(soup: dict) -> dict[str, dict]:
    return {
        policy["slot"]: {"row": policy["row"], "sha256": policy["digest"]}
        | {key: policy[key] for key in ("start", "together") if key in policy}
        for policy in soup["policies"]
    }


def write_lineage(candidate: Candidate, origin: Origin, folder: Path) -> None:
    """Write the folder `lineage` of a version."""
    folder.mkdir()
    (folder / "params.yaml").write_text(origin.settings_text)
    for path in (origin.root / LOCK, origin.root / METRICS / "report.json", origin.root / MEASURED):
        if path.exists():
            shutil.copy(path, folder)
    if origin.code.dirty:
        (folder / "changes.diff").write_text(origin.code.changes)
    facts = {
        "name": candidate.name,
        "kind": candidate.kind,
        "fingerprint": candidate.fingerprint,
        "bonesoup": bonesoup.__version__,
        "git": {"commit": origin.code.commit, "dirty": origin.code.dirty},
        "policies": policies(candidate, origin),
        BASELINE: _facts(candidate.rewarded) if candidate.rewarded else {},
        "coefficients": candidate.coefficients,
        "metrics": candidate.evidence,
        "yardstick": origin.yardstick,
        "pipeline": origin.pipeline,
        "sha256": origin.digests,
        "environment": lineage.environment(),
    }
    write_json(folder / "lineage.json", facts)
