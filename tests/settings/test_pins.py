"""Newer commits of what is pinned are looked up with the Hub's own client; here a server on loopback answers it."""

import json
import os
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from bonesoup.settings.params import check, load
from bonesoup.settings.pins import Pin
from bonesoup.settings.profiles import compose, plain

NOW = "b" * 40
CONVERTED = "d" * 40
# What the profile `summary` names: its dataset is read from a branch that the Hub made.
FULL_SIZE = {
    "/api/datasets/openai/summarize_from_feedback/revision/refs%2Fconvert%2Fparquet": CONVERTED,
    "/api/models/meta-llama/Llama-2-7b-hf": "1" * 40,
    "/api/models/CogComp/bart-faithful-summary-detector": "2" * 40,
    "/api/models/Tristan/gpt2_reward_summarization": "3" * 40,
}


@pytest.fixture
def hub():
    """Serve a Hub that knows one dataset and one model; yield its address."""

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self):
            path = self.path.partition("?")[0]
            known = {"/api/datasets/team/pairs": NOW, "/api/models/team/judge": NOW} | FULL_SIZE
            body = json.dumps({"id": "team/pairs", "modelId": "team/judge", "sha": known.get(path)}).encode()
            self.send_response(200 if path in known else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def ask(kind: str, repository: str, endpoint: str) -> str:
    """Run `newest` in a separate process: the client reads the address when it is imported."""
    program = (
        "from bonesoup.settings.pins import Pin, newest\n"
        f"try: print(newest(Pin('key', {kind!r}, {repository!r}, 'a')))\n"
        "except ConnectionError as error: print('ConnectionError', error)"
    )
    variables = os.environ | {"HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": "0"}
    done = subprocess.run([sys.executable, "-c", program], env=variables, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_commit_of_now_is_found(hub):
    assert ask("dataset", "team/pairs", hub) == NOW
    assert ask("model", "team/judge", hub) == NOW


def test_what_cannot_be_looked_up_is_said(hub):
    assert ask("model", "team/unknown", hub).startswith("ConnectionError model team/unknown could not be looked up")
    assert ask("model", "team/judge", "http://127.0.0.1:9").startswith("ConnectionError model team/judge")


def test_everything_remote_that_settings_pin_is_listed():
    document = plain(compose("embedded"))
    assert check(document).pins() == []
    document["data"] |= {"source": "hh-rlhf", "hub": "team/pairs", "revision": "a1", "labels": ["harmless"]}
    judge = {"kind": "pretrained", "model": "team/judge", "revision": "c3", "input": "hh", "logit": 0, "source": "x"}
    document["rewards"]["helpful"] = judge
    document["model"] |= {"source": "team/base", "revision": "b2"}
    assert check(document).pins() == [
        Pin("data.revision", "dataset", "team/pairs", "a1"),
        Pin("model.revision", "model", "team/base", "b2"),
        Pin("rewards.helpful.revision", "model", "team/judge", "c3"),
    ]


@pytest.fixture
def project(tmp_path, request):
    root = request.config.rootpath
    shutil.copytree(root / "profiles", tmp_path / "profiles")
    shutil.copy(root / "params.yaml", tmp_path)
    return tmp_path


def profile(project, *arguments: str, endpoint: str) -> subprocess.CompletedProcess:
    variables = os.environ | {"HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": "0", "COLUMNS": "200"}
    command = [sys.executable, "-m", "bonesoup.cli", "profile", *arguments]
    return subprocess.run(command, cwd=project, env=variables, capture_output=True, text=True, check=False)


def test_pin_writes_the_commits_of_now_and_the_profile_can_run(hub, project):
    done = profile(project, "summary", "--pin", endpoint=hub)
    assert done.returncode == 0, done.stderr
    settings = load(project / "params.yaml")
    assert {pin.key: pin.revision for pin in settings.pins()} == {
        "data.revision": CONVERTED,
        "model.revision": "1" * 40,
        "rewards.faithful.revision": "2" * 40,
        "rewards.preference.revision": "3" * 40,
    }
    # What is pinned stays, also where the Hub has something newer by now.
    kept = profile(project, "--pin", "--set", f"model.revision={'e' * 40}", endpoint=hub)
    assert kept.returncode == 0, kept.stderr
    assert load(project / "params.yaml").model.revision == "e" * 40


def test_pin_adds_a_revision_that_the_profile_leaves_out(hub, project):
    file = project / "profiles/summary.yaml"
    before = file.read_text()
    file.write_text("".join(line for line in before.splitlines(True) if line != "    revision: null\n"))
    assert file.read_text() != before
    done = profile(project, "summary", "--pin", endpoint=hub)
    assert done.returncode == 0, done.stderr
    assert load(project / "params.yaml").rewards["preference"].revision == "3" * 40


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["summary"], "profile summary has 4 faults:\n  - data.revision: openai/summarize_from_feedback is no folder"),
        (["assistant", "--pin"], "dataset Anthropic/hh-rlhf could not be looked up"),
    ],
)
def test_without_commits_nothing_is_written(hub, project, arguments, reason):
    """Not asked for them, or asked for some that this Hub does not know."""
    before = (project / "params.yaml").read_bytes()
    done = profile(project, *arguments, endpoint=hub)
    assert done.returncode == 1
    assert done.stderr.startswith(f"bonesoup: {reason}")
    assert "Traceback" not in done.stderr
    assert (project / "params.yaml").read_bytes() == before


def test_an_estimate_needs_no_commit_and_writes_nothing(project):
    before = (project / "params.yaml").read_bytes()
    done = profile(project, "assistant-small", "--estimate", endpoint="http://127.0.0.1:9")
    assert done.returncode == 0, done.stderr
    assert "On RTX 4090 (24 GB)" in done.stdout
    assert (project / "params.yaml").read_bytes() == before
