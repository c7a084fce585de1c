"""Hostile and unlucky clients against a real server process: it answers, and nobody else notices."""

import asyncio
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import openai
import pytest
import uvicorn
from soup_server import serving

from bonesoup.serving import listening
from bonesoup.serving.app import application
from bonesoup.serving.metrics import Metrics
from bonesoup.serving.middleware import Access

pytestmark = pytest.mark.slow
NAME = "bonesoup-soup-1"
CHAT = {"model": NAME, "messages": [{"role": "user", "content": "bake mixed stir"}], "seed": 1}


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    return tmp_path_factory.mktemp("here")


@pytest.fixture(scope="module")
def server(version, here):
    with serving(version, "--timeout", "30", cwd=here) as running:
        yield running


def ask(url: str, **change) -> httpx.Response:
    return httpx.post(f"{url}/v1/chat/completions", json=CHAT | change, timeout=60)


def gauge(url: str, name: str) -> float:
    text = httpx.get(f"{url}/metrics").text
    # A counter that has not counted yet is not listed.
    match = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(match[1]) if match else 0.0


def taken(url: str) -> float:
    """Return the number of rows that the server has accepted."""
    health, text = httpx.get(f"{url}/health").json(), httpx.get(f"{url}/metrics").text
    ended = re.findall(r"^bonesoup_rows_ended_total\{.*\} (\S+)$", text, re.MULTILINE)
    return health["running"] + health["waiting"] + sum(map(float, ended))


def settled(url: str, seconds: float = 10) -> bool:
    """Return True if nothing runs or waits soon."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        health = httpx.get(f"{url}/health").json()
        if health["running"] == health["waiting"] == 0:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b"null", 400),
        (b'{"model": 1}', 400),
        (b"\xff\xfe\x00", 400),
        (b'{"model": "x", "messages": ' + b"[" * 5000 + b"]" * 5000 + b"}", 400),
        (json.dumps(CHAT | {"preference": {"helpful": float("nan"), "harmless": 1}}).encode(), 400),
        (json.dumps(CHAT | {"preference": {"helpful": 1e308, "harmless": 1e308}}).encode(), 400),
        (json.dumps(CHAT | {"preference": {"\ud800": 1}}).encode(), 400),
        (json.dumps(CHAT | {"preference": {"\ud800": "x"}}).encode(), 400),
        (json.dumps(CHAT | {"stop": "x" * 200_000}).encode(), 400),
        (json.dumps(CHAT | {"stop": ["x", ""]}).encode(), 400),
        (json.dumps(CHAT | {"seed": 2**70}).encode(), 400),
        (json.dumps(CHAT | {"temperature": "hot"}).encode(), 400),
        (json.dumps(CHAT | {"max_tokens": 10**30}).encode(), 400),
        (json.dumps(CHAT | {"messages": [{"role": "user", "content": "\ud800 bake"}]}).encode(), 400),
        (b'{"pad": "' + b"x" * 2_000_000 + b'"}', 413),
    ],
)
def test_a_hostile_body_gets_a_clear_answer_in_openais_form(server, content, status):
    headers = {"Content-Type": "application/json"}
    answer = httpx.post(f"{server.url}/v1/chat/completions", content=content, headers=headers, timeout=30)
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert ask(server.url).status_code == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/score", {"prompt": "\ud800", "answers": ["bake"]}),
        ("/v1/score", {"prompt": "bake", "answers": ["\ud800"]}),
        ("/v1/soup/rewards", {"messages": CHAT["messages"], "answers": ["\ud800"]}),
        ("/v1/completions", {"prompt": "\ud800"}),
        ("/tokenize", {"prompt": "\ud800"}),
    ],
)
def test_half_of_a_surrogate_pair_is_refused_wherever_a_text_goes(server, path, body):
    content = json.dumps({"model": CHAT["model"]} | body).encode()
    answer = httpx.post(server.url + path, content=content, headers={"Content-Type": "application/json"}, timeout=30)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["param"].startswith(("prompt", "answers"))


def test_a_body_without_a_length_is_bounded_too(server):
    def endless():
        for _ in range(200):
            yield b"x" * 65536

    answer = httpx.post(f"{server.url}/v1/chat/completions", content=endless(), timeout=30)
    assert answer.status_code == 413


def test_schemathesis_finds_no_crash_and_no_answer_outside_the_schema(server, here):
    command = [str(Path(sys.executable).with_name("schemathesis")), "run", f"{server.url}/openapi.json"]
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    command += ["--checks", checks, "--max-examples", "40", "--seed", "1", "--no-color", "--phases", "coverage,fuzzing"]
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert settled(server.url)


def test_the_row_of_a_client_that_goes_away_is_freed(server):
    cancelled = 'bonesoup_rows_ended_total{end="cancelled",method="bone"}'
    assert ask(server.url).status_code == 200
    before = gauge(server.url, cancelled)
    for stream in (True, False):
        body = json.dumps(CHAT | {"stream": stream, "max_tokens": 240, "n": 8, "temperature": 0}).encode()
        host, port = server.url.removeprefix("http://").split(":")
        for _ in range(6):
            with socket.create_connection((host, int(port))) as client:
                head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
                client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
                time.sleep(0.05)
        assert settled(server.url, 30)
    assert gauge(server.url, cancelled) - before > 20
    assert not [line for line in server.lines if "Traceback" in line or "never retrieved" in line]
    assert ask(server.url).status_code == 200


def test_a_client_that_stops_reading_holds_nobody_up(server):
    expected = ask(server.url).json()["choices"]
    host, port = server.url.removeprefix("http://").split(":")
    body = json.dumps(CHAT | {"stream": True, "max_tokens": 240, "n": 8}).encode()
    stuck = []
    for _ in range(8):
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        client.connect((host, int(port)))
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        stuck.append(client)
    try:
        assert ask(server.url).json()["choices"] == expected
        # Their rows end although nobody reads them.
        assert settled(server.url, 20)
    finally:
        for client in stuck:
            client.close()


def test_a_full_queue_says_so_and_when_to_come_back(version, here):
    with serving(version, "--batch", "1", "--queue", "1", cwd=here) as running:
        answers = []
        threads = [
            threading.Thread(target=lambda: answers.append(ask(running.url, **{"max_tokens": 240, "temperature": 0})))
            for _ in range(12)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        refused = [answer for answer in answers if answer.status_code == 429]
        assert refused
        assert all(answer.headers["retry-after"] == "1" for answer in refused)
        assert {answer.status_code for answer in answers} == {200, 429}
        # The client of OpenAI comes back by itself.
        client = openai.OpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=20)
        assert client.chat.completions.create(**CHAT).choices


def test_an_answer_that_takes_too_long_is_a_504_or_the_last_event(version, here):
    with serving(version, "--timeout", "0.1", cwd=here) as running:
        slow = {"max_tokens": 240, "temperature": 0, "n": 8}
        answer = ask(running.url, **slow)
        assert answer.status_code == 504
        assert answer.json()["error"]["code"] == "timeout"
        with httpx.stream("POST", f"{running.url}/v1/chat/completions", json=CHAT | slow | {"stream": True}) as events:
            last = [line for line in events.iter_lines() if line][-1]
        assert json.loads(last.removeprefix("data: "))["error"]["code"] == "timeout"


def test_sigterm_under_load_finishes_every_answer_and_exits_0(version, here):
    # Longer than a busy machine may need: what runs is not to be cut.
    with serving(version, "--drain", "60", cwd=here) as running:
        long = {"max_tokens": 200, "ignore_eos": True}
        expected = {seed: ask(running.url, seed=seed, **long).json()["choices"][0] for seed in range(24)}
        before = taken(running.url)

        async def everybody() -> list:
            async with httpx.AsyncClient(timeout=60) as client:
                asked = [
                    asyncio.ensure_future(
                        client.post(f"{running.url}/v1/chat/completions", json=CHAT | long | {"seed": seed})
                    )
                    for seed in range(24)
                ]
                # Whoever has not been heard by then is not an answer under way.
                while await asyncio.to_thread(taken, running.url) < before + 24:
                    await asyncio.sleep(0.002)
                running.process.send_signal(signal.SIGTERM)
                return await asyncio.gather(*asked)

        answers = asyncio.run(everybody())
        assert [answer.json()["choices"][0] for answer in answers] == list(expected.values())
        assert running.process.wait(60) == 0
        assert running.lines[-1] == "stopped"


def test_answers_that_outlast_the_drain_are_told_so_and_the_exit_is_still_0(version, here):
    with serving(version, "--drain", "1", "--batch", "1", cwd=here) as running:
        answers = []
        slow = {"max_tokens": 240, "temperature": 0, "n": 8}
        threads = [threading.Thread(target=lambda: answers.append(ask(running.url, **slow))) for _ in range(24)]
        for thread in threads:
            thread.start()
        while taken(running.url) < 24 * 8:
            time.sleep(0.02)
        assert running.stop() == 0
        for thread in threads:
            thread.join()
        cut = [answer for answer in answers if answer.status_code != 200]
        assert len(answers) == 24
        assert cut
        assert {(answer.status_code, answer.json()["error"]["code"]) for answer in cut} == {(503, "unavailable")}
        assert not [line for line in running.lines if "Traceback" in line]


def half(url: str, text: bytes) -> socket.socket:
    """Send the beginning of a request."""
    host, port = url.removeprefix("http://").split(":")
    client = socket.create_connection((host, int(port)))
    client.sendall(text)
    return client


BODY_TO_COME = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
BODY_TO_COME += b"Content-Length: 1000\r\n\r\n{"


def test_half_a_request_does_not_hold_up_the_end(version, here):
    with serving(version, "--drain", "30", cwd=here) as running:
        with half(running.url, BODY_TO_COME) as body, half(running.url, b"GET /health HTTP/1.1\r\n"):
            time.sleep(0.5)
            started = time.monotonic()
            assert running.stop() == 0
            assert time.monotonic() - started < 10
            assert b" 408 " in body.recv(1000)
        assert not [line for line in running.lines if "Traceback" in line]


def test_half_a_request_is_not_waited_for_for_ever(monkeypatch):
    monkeypatch.setattr(listening, "HEADERS", 0.3)
    app = application(lambda: None, Metrics(), Access(upload=0.3))
    # Behind a complete request, half of another is closed by uvicorn's own limit for kept connections.
    config = uvicorn.Config(app, http=listening.TimedProtocol, log_level="warning", port=0, timeout_keep_alive=1)
    running = listening.Server(config, app)
    listener = listening.listen("127.0.0.1", 0)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        for text, expected in (
            (b"", b""),
            (b"GET /health HTTP/1.1\r\nHost", b""),
            (b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\n", b"HTTP/1.1 200"),
            (BODY_TO_COME, b"HTTP/1.1 408"),
        ):
            with half(url, text) as client:
                client.settimeout(5)
                received = b""
                while piece := client.recv(65536):
                    received += piece
                assert received.startswith(expected)
    finally:
        running.should_exit = True
        thread.join()


def test_a_kept_connection_does_not_wait_for_an_acknowledgement(server):
    with httpx.Client() as client:
        times = []
        for _ in range(30):
            started = time.perf_counter()
            client.get(f"{server.url}/health")
            times.append(time.perf_counter() - started)
    # Without TCP_NODELAY it is 40 ms at best.
    assert sorted(times)[5] < 0.02


def test_a_page_of_an_allowed_origin_may_ask_and_no_other(version, here):
    with serving(version, "--allowed-origin", "https://chat.example.org", cwd=here) as running:
        ask = {"Origin": "https://chat.example.org", "Access-Control-Request-Method": "POST"}
        allowed = httpx.options(f"{running.url}/v1/chat/completions", headers=ask)
        assert allowed.headers["access-control-allow-origin"] == ask["Origin"]
        other = httpx.options(f"{running.url}/v1/chat/completions", headers=ask | {"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers


def test_without_the_token_there_is_the_page_and_nothing_else(version, here):
    (here / "token").write_text("s3cret\n")
    with serving(version, "--token-file", "token", cwd=here) as running:
        assert ask(running.url).status_code == 401
        assert httpx.get(f"{running.url}/metrics").status_code == 401
        assert httpx.get(f"{running.url}/v1/soup", headers={"Authorization": "Bearer wrong"}).status_code == 401
        assert httpx.get(f"{running.url}/health").status_code == 200
        client = openai.OpenAI(base_url=f"{running.url}/v1", api_key="s3cret")
        assert client.chat.completions.create(**CHAT).choices
        with pytest.raises(openai.AuthenticationError):
            openai.OpenAI(base_url=f"{running.url}/v1", api_key="other").models.list()
        assert "s3cret" not in "\n".join(running.lines)


@pytest.mark.parametrize("soup", ["version", "version3"])
def test_the_first_answer_it_proposes_is_given(soup, request, here):
    with serving(request.getfixturevalue(soup), cwd=here) as running:
        (line,) = [line for line in running.lines if "a first answer:" in line]
        done = subprocess.run(["bash", "-c", line.partition("answer:")[2]], capture_output=True, text=True, check=True)
        assert json.loads(done.stdout)["choices"], done.stdout


def test_another_host_is_refused_on_this_machines_own_address(server):
    assert httpx.get(f"{server.url}/v1/soup", headers={"Host": "evil.example"}).status_code == 403
    assert httpx.get(f"{server.url}/health", headers={"Host": "localhost:1234"}).status_code == 200


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "0.0.0.0"], "can be reached from other machines: set a token"),
        (["nowhere"], "nowhere is neither a project"),
        (["--token-file", "nowhere"], "nowhere does not exist"),
        (["FOLDER", "--follow"], "--follow takes every new champion of the registry"),
        (["FOLDER", "--device", "gpu"], "gpu"),
    ],
)
def test_what_cannot_be_served_is_said_in_one_line(version, here, arguments, message):
    command = [str(Path(sys.executable).with_name("bonesoup")), "serve", "--port", "0"]
    command += [str(version) if argument == "FOLDER" else argument for argument in arguments]
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
