from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from bonesoup.files import read_json
from bonesoup.registry import manifest

MODEL = "bonesoup-soup"


@pytest.fixture
def downloaded(registered, tmp_path) -> Path:
    return Path(mlflow.artifacts.download_artifacts(f"models:/{MODEL}/1", dst_path=str(tmp_path / "version")))


@pytest.fixture
def digest(registered) -> str:
    return MlflowClient().get_model_version(MODEL, "1").tags["manifest"]


def test_a_version_comes_back_as_it_was_listed(downloaded, digest):
    listed = read_json(downloaded / "lineage/manifest.json")
    assert {"MLmodel", "README.md", "artifacts/soup.json", "lineage/lineage.json"} <= listed.keys()
    assert "artifacts/backbone-1/adapter_model.safetensors" in listed
    assert manifest.check(downloaded, digest) == []


def test_loading_a_version_changes_nothing_listed(registered, digest, tmp_path):
    mlflow.pyfunc.load_model(f"models:/{MODEL}/1").predict(["how"])
    again = Path(mlflow.artifacts.download_artifacts(f"models:/{MODEL}/1", dst_path=str(tmp_path / "again")))
    assert manifest.check(again, digest) == []


def test_every_kind_of_damage_is_named(downloaded, digest):
    weights = downloaded / "artifacts/backbone-1/adapter_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    (downloaded / "README.md").unlink()
    (downloaded / "code/extra.py").write_text("")
    assert manifest.check(downloaded, digest) == [
        "README.md: missing",
        "code/extra.py: not in the list",
        "artifacts/backbone-1/adapter_model.safetensors: changed",
    ]


def test_the_list_itself_is_known_to_the_registry(downloaded, digest):
    listing = downloaded / "lineage/manifest.json"
    listing.write_text(listing.read_text().replace("README.md", "READYOU.md"))
    assert manifest.check(downloaded, digest) == ["lineage/manifest.json: changed"]
    listing.unlink()
    assert manifest.check(downloaded, digest) == ["lineage/manifest.json: missing"]
