"""Real MLflow processes on loopback."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import mlflow
import pytest
from mlflow_server import serving, tracking
from prefect_server import free_port

from bonesoup.registry.register import register_all
from bonesoup.registry.store import tracking_uri
from bonesoup.settings.schema import Register

pytestmark = pytest.mark.slow


def ask(url: str, **payload) -> tuple[int, dict | str]:
    request = urllib.request.Request(
        f"{url}/invocations", json.dumps(payload).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_models_serve_answers_any_preference(registered, project, tmp_path):
    prompts = ["how do i bake bread ?", "ask a person"]
    arguments = ["models", "serve", "-m", "models:/bonesoup-soup/1", "--env-manager", "local"]
    store = {"MLFLOW_TRACKING_URI": tracking_uri(project.root)}
    soup = mlflow.pyfunc.load_model("models:/bonesoup-soup/1")
    with serving(arguments, free_port(), tmp_path, "/ping", **store) as (url, _):
        answers = []
        for weights in ({"helpful": 1, "harmless": 0}, {"helpful": 0.2, "harmless": 0.8}):
            status, answer = ask(url, inputs=prompts, params={"preference": weights, "seed": 5})
            assert status == 200, answer
            assert answer["predictions"] == soup.predict(prompts, params={"preference": weights, "seed": 5})
            answers.append(answer["predictions"])
        assert answers[0] != answers[1]
        records = {"dataframe_records": [{"prompt": prompt} for prompt in prompts]}
        status, answer = ask(url, **records, params={"named": "careful", "seed": 5})
        assert (status, answer["predictions"]) == (200, answers[1])
        status, answer = ask(url, inputs=prompts, params={"preference": {"helpful": 0.7, "harmless": 0.7}})
        assert status == 400
        assert "weights sum to 1.4, not 1" in answer
        status, answer = ask(url, inputs=prompts, params={"preference": {"kindness": 1}})
        assert status == 400
        assert "kindness" in answer


def test_a_dead_server_loses_nothing(project, tmp_path, monkeypatch):
    """Refused by a dead server, sent to it once it lives, and not sent twice."""
    before = mlflow.get_tracking_uri()
    port = free_port()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    lines = []
    register = Register(name="bonesoup", merged=["balanced"])
    call = (project.root, project.settings_text, register, project.preferences, lines.append)
    start = time.monotonic()
    with pytest.raises(ConnectionError, match="Nothing is lost"):
        register_all(*call)
    assert time.monotonic() - start < 10
    try:
        with tracking(port, tmp_path):
            first, second = register_all(*call), register_all(*call)
            assert {"prepare", "policy@backbone-1", "front@bone", "report"} <= set(first["runs"]["sent"])
            assert all(model["new"] for model in first["models"].values())
            assert second["runs"]["sent"] == []
            assert not any(model["new"] for model in second["models"].values())
            folder = Path(mlflow.artifacts.download_artifacts("models:/bonesoup-merged-balanced/1"))
            assert (folder / "artifacts/checkpoint/model.safetensors").exists()
            assert (folder / "lineage/lineage.json").exists()
    finally:
        mlflow.set_tracking_uri(before)


def test_a_version_runs_the_package_it_carries(registered, project, tmp_path):
    """Not the one that happens to be installed."""
    program = (
        "import mlflow, sys; m = mlflow.pyfunc.load_model('models:/bonesoup-soup/1');"
        "print(m.predict(['ask a person'])); import bonesoup.generation.soup as s; print(s.__file__)"
    )
    variables = os.environ | {"MLFLOW_TRACKING_URI": tracking_uri(project.root), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", program], env=variables, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = Path(done.stdout.splitlines()[-1])
    assert loaded.parts[-4:] == ("code", "bonesoup", "generation", "soup.py")
    assert "type hints" not in done.stderr
