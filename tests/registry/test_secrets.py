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
    "PGPASSWORD": "planted-postgres-password",
    "HF_TOKEN": "planted-hub-token",
}
IN_THE_URI = "planted-uri-password"


@pytest.fixture
def own(project, tmp_path) -> Path:
    root = tmp_path / "own"
    shutil.copytree(project.root, root, ignore=shutil.ignore_patterns("var"))
    return root


def register(root: Path, uri: str | None = None, **more: str) -> subprocess.CompletedProcess:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    own = inherited | PLANTED | ({"MLFLOW_TRACKING_URI": uri} if uri else {}) | more
    command = [sys.executable, "-m", "bonesoup.cli", "register"]
    return subprocess.run(command, cwd=root, env=own, capture_output=True, text=True, timeout=300, check=False)


def leaks(root: Path, done: subprocess.CompletedProcess) -> list[str]:
    """Where a secret stands: a file (sqlite, lineage, artifacts, logs) or what was printed."""
    places = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    places |= {"standard output": done.stdout.encode(), "standard error": done.stderr.encode()}
    secrets = [value.rpartition("/")[2].encode() for value in [*PLANTED.values(), IN_THE_URI]]
    return [name for name, content in places.items() if any(secret in content for secret in secrets)]


def test_after_a_registration(own):
    done = register(own)
    assert done.returncode == 0, done.stderr
    assert (own / "var/mlflow.db").stat().st_size > 100_000
    assert any((own / "var/mlartifacts").rglob("lineage.json"))
    assert leaks(own, done) == []


def test_the_search_would_find_one(own):
    done = subprocess.CompletedProcess([], 0, "", "")
    (own / "out/note.json").write_text(f'{{"key": "{PLANTED["HF_TOKEN"]}"}}')
    assert leaks(own, done) == ["out/note.json"]


@pytest.mark.parametrize("uri", ["postgresql://me:{}@127.0.0.1:1/mlflow", "http://me:{}@127.0.0.1:1"])
def test_after_a_store_that_does_not_answer(own, uri):
    done = register(own, uri.format(IN_THE_URI))
    assert done.returncode == 1
    assert "Nothing is lost" in done.stderr
    assert leaks(own, done) == []


@pytest.fixture
def refusing():
    """The port of a server that refuses every request."""

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


def test_after_a_server_that_refuses(own, refusing):
    done = register(own, f"http://me:{IN_THE_URI}@127.0.0.1:{refusing}")
    assert done.returncode == 1
    assert "Nothing is lost" in done.stderr
    assert leaks(own, done) == []
