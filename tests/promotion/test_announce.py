"""Decisions sent to a receiver that answers, refuses, is busy for a while, or is not there."""

import contextlib
import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from prefect_server import free_port

from bonesoup.promotion import announce
from bonesoup.promotion.champion import DEMOTED, KEPT, PROMOTED, REFUSED, Decision
from bonesoup.registry import events

KEY = "sixteen letters and more"
MOVED = Decision("promote", "x-soup/3", PROMOTED, "2026-01-01T00-00-00.000000Z", "x-soup/2", "x-soup/3", reason="why")


@pytest.fixture
def receiver(monkeypatch):
    """A receiver with the statuses it answers in turn, then 200; and the requests it got."""
    monkeypatch.setenv(events.SECRET, KEY)
    got, statuses = [], []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            got.append((self.path, self.headers, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(statuses.pop(0) if statuses else 200)
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
