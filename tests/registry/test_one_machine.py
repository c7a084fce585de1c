"""`make mlflow` and stages without a server share one store."""

import json
import os
import shutil
import subprocess
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import mlflow
import psutil
import pytest
from composed import listening
from prefect_server import free_port, stop, until
from projects import ROOT, TOOLS

from bonesoup.registry.register import register_all
from bonesoup.settings.schema import Register

pytestmark = pytest.mark.slow

OBJECTIVES = ["helpful", "harmless"]


@pytest.fixture
def clone(project, tmp_path):
    """Copy the miniature, with an empty store and the server's script."""
    root = tmp_path / "project with a space"
    shutil.copytree(project.root, root, ignore=shutil.ignore_patterns("var"))
    shutil.copy(ROOT / "mlflow/server.sh", root / "mlflow")
    return root


@contextmanager
def server(root: Path):
    """Run mlflow/server.sh unchanged, but for the port."""
    port = free_port()
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    variables = inherited | {"PATH": f"{TOOLS}{os.pathsep}{os.environ['PATH']}", "MLFLOW_PORT": str(port)}
    with open(root.parent / "server.log", "w") as log:
        process = subprocess.Popen([root / "mlflow/server.sh"], env=variables, stdout=log, stderr=log, cwd="/")
    url = f"http://127.0.0.1:{port}"
    try:
        until(lambda: process.poll() or get(f"{url}/health") == b"OK", "the server answers")
        assert process.poll() is None, (root.parent / "server.log").read_text()
        assert listening(psutil.Process(process.pid)) == {"127.0.0.1"}
        yield url
    finally:
        stop(process)


def get(url: str) -> bytes:
    try:
        return urllib.request.urlopen(url, timeout=10).read()
    except OSError as error:
        return str(error).encode()


@contextmanager
def store(uri: str | None):
    """Send registration and downloads to this server, or to none."""
    before = mlflow.get_tracking_uri()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
            patch.delenv(name, raising=False)
        if uri:
            patch.setenv("MLFLOW_TRACKING_URI", uri)
        try:
            yield
        finally:
            mlflow.set_tracking_uri(before)


def register(root: Path, project) -> dict:
    settings = Register(name="bonesoup", merged=["balanced"])
    return register_all(root, project.settings_text, settings, project.preferences, lambda line: None)


def card(folder: Path) -> str:
    return Path(
        mlflow.artifacts.download_artifacts("models:/bonesoup-soup/1/README.md", dst_path=str(folder))
    ).read_text()


def test_what_was_registered_without_a_server_shows_in_one(clone, project, tmp_path):
    with store(None):
        register(clone, project)
    with server(clone) as url, store(url):
        again = register(clone, project)
        assert again["runs"]["sent"] == []
        assert not any(model["new"] for model in again["models"].values())
        text = card(tmp_path)
        assert text.startswith("---\nlicense")
        # What the page of the model shows comes from the server, not from this process's disk.
        version = json.loads(get(f"{url}/api/2.0/mlflow/model-versions/get?name=bonesoup-soup&version=1"))
        model = version["model_version"]["source"].removeprefix("models:/")
        at = f"{url}/ajax-api/2.0/mlflow/logged-models/{model}/artifacts/files?artifact_file_path=README.md"
        assert get(at).decode() == text


def test_what_was_registered_through_the_server_is_there_without_it(clone, project, tmp_path):
    with server(clone) as url, store(url):
        first = register(clone, project)
        assert all(model["new"] for model in first["models"].values())
    with store(None):
        again = register(clone, project)
        assert again["runs"]["sent"] == []
        assert not any(model["new"] for model in again["models"].values())
        assert card(tmp_path).startswith("---\nlicense")
    assert any((clone / "var/mlartifacts").rglob("model.safetensors"))
