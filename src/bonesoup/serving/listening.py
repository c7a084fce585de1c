"""A socket, and uvicorn on it: slow headers and half requests hold up neither the server nor its end."""

import asyncio
import signal
import socket
from collections.abc import Sequence

import h11
import uvicorn
from starlette.middleware.cors import CORSMiddleware
from uvicorn.protocols.http.h11_impl import H11Protocol

from bonesoup.serving.middleware import Guard

# Seconds within which a request's headers must arrive.
HEADERS = 10.0


def listen(host: str, port: int) -> socket.socket:
    """Open a listening socket.

    Raises:
        ValueError: the address is taken or not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        raise ValueError(f"cannot listen on {host}:{port}: {error.strerror}; choose another --port") from None
    # Connections inherit it. asyncio sets it only on sockets whose protocol is named, which create_server does not do;
    # without it the answer on a kept connection waits 40 ms for the client's acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


class TimedProtocol(H11Protocol):
    """Close a connection on which the headers of a request do not arrive in time; uvicorn would wait for ever."""

    late: asyncio.TimerHandle | None = None

    def connection_made(self, transport) -> None:
        super().connection_made(transport)
        self._wait_for_headers()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._wait_for_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.late:
            self.late.cancel()

    def _wait_for_headers(self) -> None:
        waiting = self.conn.their_state is h11.IDLE
        if waiting and not self.late:
            self.late = self.loop.call_later(HEADERS, self.transport.close)
        elif not waiting and self.late:
            self.late.cancel()
            self.late = None


class Server(uvicorn.Server):
    """A server whose end does not wait for requests that are only half there."""

    def __init__(self, config: uvicorn.Config, guard: Guard):
        super().__init__(config)
        self.guard = guard

    async def shutdown(self, sockets=None) -> None:
        """End, as uvicorn does, within the time for running answers."""
        self.guard.hurry()
        await super().shutdown(sockets)


def run(guard: Guard, listener: socket.socket, drain: float, origins: Sequence[str]) -> None:
    """Run until a signal; uvicorn raises it again at its end, which must not change the exit status.

    Args:
        drain: seconds that running answers get after the signal.
        origins: other sites whose pages may send requests.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    app = guard
    if origins:
        names = ["X-Request-Id", "Retry-After"]
        app = CORSMiddleware(guard, origins, allow_methods=["*"], allow_headers=["*"], expose_headers=names)
    config = uvicorn.Config(
        app,
        http=TimedProtocol,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=max(1, round(drain)),
    )
    Server(config, guard).run(sockets=[listener])
