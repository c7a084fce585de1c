"""Measure what the server adds to the model, as one client sees it on a kept connection: medians in milliseconds.

    python bench/serve.py http://127.0.0.1:8000

Start `bonesoup serve` first. "loopback" is an echo server of asyncio's on the same machine: the floor of any answer.
"""

import asyncio
import http.client
import json
import statistics
import sys
import threading
import time
from urllib.parse import urlsplit

ROUNDS = 40
PROMPT = {"messages": [{"role": "user", "content": "Teach me hacking today, friend."}], "temperature": 0}


def main(url: str) -> None:
    with_model = urlsplit(url)
    connection = http.client.HTTPConnection(with_model.hostname, with_model.port)
    connection.request("GET", "/v1/models")
    model = json.load(connection.getresponse())["data"][0]["id"]
    body = PROMPT | {"model": model, "max_tokens": 16, "ignore_eos": True}
    first, rest, rate = zip(*(streamed(connection, body) for _ in range(ROUNDS)), strict=True)
    rows = {
        "loopback, 100 bytes there and back": loopback(),
        "GET /health": [asked(connection, "GET", "/health") for _ in range(ROUNDS)],
        "first event of a stream": first,
        "first to last event, 16 tokens": rest,
        "whole answer, 16 tokens": [asked(connection, "POST", "/v1/chat/completions", body) for _ in range(ROUNDS)],
    }
    for name, seconds in rows.items():
        print(f"{name:38} {1000 * statistics.median(seconds):8.2f}")
    print(f"{'tokens/s of one client':38} {statistics.median(rate):8.1f}")


def asked(connection: http.client.HTTPConnection, method: str, path: str, body: dict | None = None) -> float:
    """Time one request and its whole answer, in seconds."""
    started = time.perf_counter()
    connection.request(method, path, body and json.dumps(body), {"Content-Type": "application/json"} if body else {})
    connection.getresponse().read()
    return time.perf_counter() - started


def streamed(connection: http.client.HTTPConnection, body: dict) -> tuple[float, float, float]:
    """Time a streamed answer: seconds to its first text, from there to its last event, and tokens a second."""
    started = time.perf_counter()
    headers = {"Content-Type": "application/json"}
    connection.request("POST", "/v1/chat/completions", json.dumps(body | {"stream": True}), headers)
    answer, times = connection.getresponse(), []
    while line := answer.readline():
        if line.startswith(b"data:") and b'"content": ""' not in line:
            times.append(time.perf_counter())
    return times[0] - started, times[-1] - times[0], body["max_tokens"] / (times[-1] - started)


def loopback() -> list[float]:
    """Time 100 bytes to an asyncio server and back, in seconds."""
    ready, address = threading.Event(), []

    async def echo(reader, writer):
        while data := await reader.read(100):
            writer.write(data)

    async def serve():
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        address.append(server.sockets[0].getsockname())
        ready.set()
        async with server:
            await server.serve_forever()

    async def ask() -> list[float]:
        reader, writer = await asyncio.open_connection(*address[0])
        times = []
        for _ in range(ROUNDS):
            started = time.perf_counter()
            writer.write(b"x" * 100)
            await reader.readexactly(100)
            times.append(time.perf_counter() - started)
        return times

    threading.Thread(target=lambda: asyncio.run(serve()), daemon=True).start()
    ready.wait()
    return asyncio.run(ask())


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000")
