"""Planted secrets appear nowhere after a registration, whether it succeeded or failed."""

import os
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

PLANTED = {
    "MLFLOW_TRACKING_USERNAME": "planted-mlflow-user",
    "MLFLOW_TRACKING_PASSWORD": "planted-mlflow-password",
    "AWS_ACCESS_KEY_ID": "planted-access-key",
    "AWS_SECRET_ACCESS_KEY": "planted-secret-key",
    "PREFECT_API_KEY": "planted-prefect-key",
    "BONESOUP_WEBHOOK": "https://hooks.example/planted-webhook-token",
    "BONESOUP_EVENTS_URL": "https://hooks.example/planted-events-token",
    "BONESOUP_EVENTS_SECRET": "planted-events-secret",
    "PGPASSWORD": "planted-postgres-password",
    "HF_TOKEN": "planted-hub-token",
}
IN_THE_URI = "planted-uri-password"


@pytest.fixture
def root(project, tmp_path) -> Path:
    root = tmp_path / "root"
    shutil.copytree(project.root, root, ignore=shutil.ignore_patterns("var"))
    return root


def register(root: Path, uri: str | None = None, **more: str) -> subprocess.CompletedProcess:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    variables = inherited | PLANTED | ({"MLFLOW_TRACKING_URI": uri} if uri else {}) | more
    command = [sys.executable, "-m", "bonesoup.cli", "register"]
    return subprocess.run(command, cwd=root, env=variables, capture_output=True, text=True, timeout=300, check=False)


def leaks(root: Path, done: subprocess.CompletedProcess) -> list[str]:
    """List the places of a secret: files (sqlite, lineage, artifacts, logs) and printed text."""
    places = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    places |= {"standard output": done.stdout.encode(), "standard error": done.stderr.encode()}
    secrets = [value.rpartition("/")[2].encode() for value in [*PLANTED.values(), IN_THE_URI]]
    return [name for name, content in places.items() if any(secret in content for secret in secrets)]


def test_after_a_registration(root):
    done = register(root)
    assert done.returncode == 0, done.stderr
    assert (root / "var/mlflow.db").stat().st_size > 100_000
    assert any((root / "var/mlartifacts").rglob("lineage.json"))
    assert leaks(root, done) == []


def test_the_search_would_find_one(root):
    done = subprocess.CompletedProcess([], 0, "", "")
    (root / "out/note.json").write_text(f'{{"key": "{PLANTED["HF_TOKEN"]}"}}')
    assert leaks(root, done) == ["out/note.json"]


@pytest.mark.parametrize("uri", ["postgresql://me:{}@127.0.0.1:1/mlflow", "http://me:{}@127.0.0.1:1"])
def test_after_a_store_that_does_not_answer(root, uri):
    done = register(root, uri.format(IN_THE_URI))
    assert done.returncode == 1
    assert "Nothing is lost" in done.stderr
    assert leaks(root, done) == []


@pytest.fixture
def refusing():
    """Start a server that refuses every request; yield its port."""

    class Refuse(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(500)
            self.end_headers()
            self.wfile.write(b'{"error_code": "INTERNAL_ERROR", "message": "no"}')

        do_POST = do_GET

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Refuse) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def test_after_a_server_that_refuses(root, refusing):
    done = register(root, f"http://me:{IN_THE_URI}@127.0.0.1:{refusing}")
    assert done.returncode == 1
    assert "Nothing is lost" in done.stderr
    assert leaks(root, done) == []
