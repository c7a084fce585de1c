"""Newer commits of what is pinned are looked up with the Hub's own client; here a server on loopback answers it."""

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from bonesoup.params import check
from bonesoup.pins import Pin, pins
from bonesoup.profiles import compose, plain

NOW = "b" * 40


@pytest.fixture
def hub():
    """The address of a Hub that knows one dataset and one model."""

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self):
            known = {"/api/datasets/team/pairs", "/api/models/team/judge"}
            path = self.path.partition("?")[0]
            body = json.dumps({"id": "team/pairs", "modelId": "team/judge", "sha": NOW}).encode()
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
    """What `newest` says in a process of its own: the client reads the address when it is imported."""
    program = (
        "from bonesoup.pins import Pin, newest\n"
        f"try: print(newest(Pin('key', {kind!r}, {repository!r}, 'a')))\n"
        "except ConnectionError as error: print('ConnectionError', error)"
    )
    own = os.environ | {"HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": "0"}
    done = subprocess.run([sys.executable, "-c", program], env=own, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_commit_of_now_is_found(hub):
    assert ask("dataset", "team/pairs", hub) == NOW
    assert ask("model", "team/judge", hub) == NOW


def test_what_cannot_be_looked_up_is_said(hub):
    assert ask("model", "team/unknown", hub).startswith("ConnectionError model team/unknown could not be looked up")
    assert ask("model", "team/judge", "http://127.0.0.1:9").startswith("ConnectionError model team/judge")


def test_everything_remote_that_settings_pin_is_listed():
    document = plain(compose("embedded"))
    assert pins(check(document)) == []
    document["data"] |= {"source": "hh-rlhf", "hub": "team/pairs", "revision": "a1", "labels": ["harmless"]}
    judge = {"kind": "pretrained", "model": "team/judge", "revision": "c3", "input": "hh", "logit": 0, "source": "x"}
    document["rewards"]["helpful"] = judge
    document["model"] |= {"source": "team/base", "revision": "b2"}
    assert pins(check(document)) == [
        Pin("data.revision", "dataset", "team/pairs", "a1"),
        Pin("model.revision", "model", "team/base", "b2"),
        Pin("rewards.helpful.revision", "model", "team/judge", "c3"),
    ]
