"""A registered version whose files change in the store."""

from pathlib import Path
from urllib.parse import urlsplit

import pytest
from mlflow import MlflowClient

from bonesoup.files import read_json, write_json
from bonesoup.registry import manifest
from bonesoup.upkeep import verify

MODEL = "bonesoup-soup"
ADAPTER = "artifacts/backbone-1/adapter_model.safetensors"


@pytest.fixture
def stored(registered) -> Path:
    """Return the folder of the soup in the store; undo what a test changes there."""
    client = MlflowClient()
    model = client.get_model_version(MODEL, "1").source.removeprefix("models:/")
    folder = Path(urlsplit(client.get_logged_model(model).artifact_location).path)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    yield folder
    for path, content in before.items():
        path.write_bytes(content)


def faults(project, tmp_path) -> list[str]:
    (verified,) = verify.versions(project.root, "bonesoup", ["1"], tmp_path)
    assert verified.name == f"{MODEL}/1"
    assert verified.damaged == bool(verified.faults)
    return verified.faults


def test_a_version_as_registered_is_whole(project, stored, tmp_path):
    assert faults(project, tmp_path) == []


def test_a_flipped_bit_is_found(project, stored, tmp_path):
    content = bytearray((stored / ADAPTER).read_bytes())
    content[-1] ^= 1
    (stored / ADAPTER).write_bytes(content)
    assert faults(project, tmp_path) == [f"{ADAPTER}: changed"]


def test_other_weights_in_a_forged_list_are_noticed(project, stored, tmp_path):
    """Whoever can write to the files alone cannot change the digest of the list, which the registry keeps."""
    (stored / ADAPTER).write_bytes((stored / ADAPTER.replace("1", "2")).read_bytes())
    manifest.write(stored)
    assert faults(project, tmp_path) == ["lineage/manifest.json: changed"]
    assert verify.lineage_faults(stored) == [f"{ADAPTER}: not what the lineage names"]


def test_a_recipe_that_names_other_weights_is_found(stored):
    recipe = read_json(stored / "artifacts/soup.json")
    recipe["policies"][1]["digest"] = "0" * 64
    write_json(stored / "artifacts/soup.json", recipe)
    path = f"artifacts/{recipe['policies'][1]['path']}/adapter_model.safetensors"
    assert verify.lineage_faults(stored) == [f"{path}: not what the lineage names"]
