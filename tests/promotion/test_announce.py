"""Decisions sent to a receiver that answers, refuses, is busy for a while, or is not there."""

import base64
import contextlib
import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from prefect_server import free_port

from bonesoup.promotion import announce, prefect_event
from bonesoup.promotion.champion import DEMOTED, KEPT, PROMOTED, REFUSED, Decision
from bonesoup.registry import events

KEY = "sixteen letters and more"
MOVED = Decision("promote", "x-soup/3", PROMOTED, "2026-01-01T00-00-00.000000Z", "x-soup/2", "x-soup/3", reason="why")


@pytest.fixture
def receiver(monkeypatch):
    """A receiver with the statuses it answers in turn, then 200 (204 to Prefect events); and the requests it got."""
    monkeypatch.setenv(events.SECRET, KEY)
    got, statuses = [], []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            got.append((self.path, self.headers, self.rfile.read(int(self.headers["Content-Length"]))))
            usual = 204 if self.path == "/api/events" else 200
            self.send_response(statuses.pop(0) if statuses else usual)
            self.send_header("Location", "http://127.0.0.1:1/")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/hook?token=abc", got, statuses
    server.shutdown()
    server.server_close()


def test_a_move_is_told_signed_with_its_reason(receiver):
    url, got, _ = receiver
    assert announce.announce(MOVED, [url]) == []
    ((path, headers, body),) = got
    assert path == "/hook?token=abc"
    assert events.fault(KEY, headers, body) is None
    event = json.loads(body)
    assert event["data"] == {"name": "x-soup", "alias": "champion", "version": "3"}
    assert event["decision"]["before"] == "x-soup/2"
    assert event["decision"]["reason"] == "why"


def test_a_demotion_is_told_as_an_alias_that_was_taken_away(receiver):
    url, got, _ = receiver
    announce.announce(Decision("demote", "x-soup/3", DEMOTED, "now", "x-soup/3", None), [url])
    event = json.loads(got[0][2])
    assert (event["action"], event["data"]) == ("deleted", {"name": "x-soup", "alias": "champion"})


@pytest.mark.parametrize("verdict", [REFUSED, KEPT])
def test_nothing_is_told_if_nothing_moved(receiver, verdict):
    url, got, _ = receiver
    assert announce.announce(Decision("promote", "x-soup/3", verdict, "now", None, None), [url]) == []
    assert announce.announce(Decision("promote", "x-soup/3", PROMOTED, "now", None, "x", dry_run=True), [url]) == []
    assert got == []


def test_a_busy_receiver_is_asked_again(receiver):
    url, got, statuses = receiver
    statuses += [503, 502]
    assert announce.announce(MOVED, [url]) == []
    assert len(got) == 3


@pytest.mark.parametrize(("status", "times"), [(401, 1), (302, 1), (500, 4)])
def test_a_receiver_that_refuses_gets_a_line_without_its_address(receiver, monkeypatch, status, times):
    url, got, statuses = receiver
    monkeypatch.setattr(announce, "FIRST_PAUSE", 0.01)
    statuses += 9 * [status]
    (line,) = announce.announce(MOVED, [url])
    assert line == f"127.0.0.1 was not told of the new champion: status {status}"
    assert len(got) == times


def test_a_receiver_that_is_not_there_costs_seconds_and_the_others_are_told(receiver, monkeypatch):
    url, got, _ = receiver
    started = time.monotonic()
    (line,) = announce.announce(MOVED, [f"http://127.0.0.1:{free_port()}/", url])
    assert line == "127.0.0.1 was not told of the new champion: ConnectionError"
    assert time.monotonic() - started < 10
    assert len(got) == 1


def test_a_receiver_that_never_finishes_its_answer_does_not_hold_up_the_command(receiver, monkeypatch):
    url, got, _ = receiver
    monkeypatch.setattr(announce, "LONGEST", 1)
    with socket.create_server(("127.0.0.1", 0)) as slow:
        threading.Thread(target=_drip, args=(slow,), daemon=True).start()
        started = time.monotonic()
        (line,) = announce.announce(MOVED, [f"http://127.0.0.1:{slow.getsockname()[1]}/", url])
    assert line == "127.0.0.1 was not told of the new champion: no answer in 1 seconds"
    assert time.monotonic() - started < 5
    assert len(got) == 1


def _drip(server):
    connection, _ = server.accept()
    with contextlib.suppress(OSError):
        while True:
            connection.send(b"H")
            time.sleep(0.1)


@pytest.fixture
def prefect_api(receiver, monkeypatch):
    url, got, statuses = receiver
    api = url.replace("/hook?token=abc", "/api")
    monkeypatch.setenv(prefect_event.API, api)
    return api, got, statuses


def test_a_prefect_server_is_told_too(prefect_api, receiver):
    url, got, _ = receiver
    assert announce.announce(MOVED, [url]) == []
    assert {path for path, _, _ in got} == {"/hook?token=abc", "/api/events"}
    (event,) = json.loads(next(body for path, _, body in got if path == "/api/events"))
    assert event["event"] == "bonesoup.champion.moved"
    assert event["resource"]["prefect.resource.id"] == "bonesoup.model.x-soup"
    assert event["payload"] == {
        "version": "x-soup/3",
        "previous": "x-soup/2",
        "action": "promote",
        "reason": "why",
    }


@pytest.mark.parametrize(
    ("variable", "value", "header"),
    [
        (prefect_event.LOGIN, "me:secret", f"Basic {base64.b64encode(b'me:secret').decode()}"),
        (prefect_event.KEY, "pnu_1", "Bearer pnu_1"),
    ],
)
def test_a_prefect_server_with_a_login_gets_it(prefect_api, monkeypatch, variable, value, header):
    _, got, _ = prefect_api
    monkeypatch.setenv(variable, value)
    assert announce.announce(MOVED, []) == []
    assert got[0][1]["Authorization"] == header


@pytest.mark.parametrize("status", [200, 302, 401, 422, 503])
def test_a_prefect_server_that_does_not_take_the_event_is_named(prefect_api, status):
    _, got, statuses = prefect_api
    statuses.append(status)
    assert announce.announce(MOVED, []) == [f"127.0.0.1 was not told of the new champion: status {status}"]
    assert len(got) == 1


def test_a_prefect_server_that_is_not_there_or_silent_costs_two_seconds(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for port, problem in ((free_port(), "ConnectionError"), (silent.getsockname()[1], "ReadTimeout")):
            monkeypatch.setenv(prefect_event.API, f"http://127.0.0.1:{port}/api")
            started = time.monotonic()
            assert announce.announce(MOVED, []) == [f"127.0.0.1 was not told of the new champion: {problem}"]
            assert time.monotonic() - started < 4
