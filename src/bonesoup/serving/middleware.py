"""Plain ASGI middleware around the routes: access, limits of size and time, headers, counting."""

import asyncio
import secrets
import uuid
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.responses import StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bonesoup.serving import errors, hooks
from bonesoup.serving.errors import ApiError
from bonesoup.serving.metrics import Metrics

# The page loads only its files.
HEADERS = {
    b"content-security-policy": b"default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
}
# An event is signed instead.
OPEN = ("/", "/health", "/v1/health", hooks.PATH)
REQUEST_ID = b"x-request-id"
# Seconds that an incoming body gets when the server is stopped.
LAST_BODIES = 1.0
CLOSE = {"Connection": "close"}


@dataclass(frozen=True)
class Access:
    """The rules of access to the server.

    Attributes:
        token: token that clients must send; None for none.
        hosts: host names that requests may use; None for any.
        origins: other sites whose pages may send requests.
        root_path: the path under which a proxy publishes it, such as /soup.
        largest: most bytes of a body, which is tokenised while other requests wait.
        upload: seconds in which a request must have arrived.
        patience: seconds that a client may leave sent text unread.
    """

    token: str | None = None
    hosts: Collection[str] | None = None
    origins: tuple[str, ...] = ()
    root_path: str = ""
    largest: int = 1 << 18
    upload: float = 20
    patience: float = 60


class Guard:
    """Refuse requests without the token, for another host, too large or too slow; count all of them."""

    def __init__(self, app: ASGIApp, access: Access, metrics: Metrics):
        self.app = app
        self.access = access
        self.metrics = metrics
        self._uploads: set[asyncio.Timeout] = set()

    def hurry(self) -> None:
        """Give bodies that are still on their way a last moment: the server is being stopped."""
        soon = asyncio.get_running_loop().time() + LAST_BODIES
        for upload in self._uploads:
            upload.reschedule(min(soon, upload.when()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        # uvicorn omits the body of an answer to HEAD.
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        # Works for proxies that strip the prefix and for those that do not, since routes are matched after it.
        scope = scope | {"method": method, "root_path": self.access.root_path}
        headers = dict(scope["headers"])
        name = _request_id(headers.get(REQUEST_ID))
        started = False

        async def counted(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                route = getattr(scope.get("route"), "path", "other")
                self.metrics.requests.labels(route, message["status"]).inc()
                message["headers"] = [*message["headers"], *HEADERS.items(), (REQUEST_ID, name)]
            await send(message)

        if refusal := self._refusal(scope, headers):
            await errors.answer(refusal)(scope, receive, counted)
            return
        try:
            await self.app(scope, self._bounded(receive), counted)
        except asyncio.CancelledError:
            # The time for running answers is up after the server was stopped.
            if not started:
                stopped = ApiError(503, "the server was stopped before the answer was complete", code="unavailable")
                await errors.answer(stopped)(scope, receive, counted)

    def _bounded(self, receive: Receive) -> Receive:
        """Receive a body that is neither too large nor too slow; afterwards wait for the client as long as it takes."""
        taken, complete, deadline = 0, False, None

        async def bounded() -> Message:
            nonlocal taken, complete, deadline
            if complete:
                return await receive()
            if deadline is None:
                deadline = asyncio.get_running_loop().time() + self.access.upload
            try:
                async with asyncio.timeout_at(deadline) as upload:
                    self._uploads.add(upload)
                    try:
                        message = await receive()
                    finally:
                        self._uploads.discard(upload)
            except TimeoutError:
                # FastAPI passes HTTPException on, and turns any other into a 400.
                raise HTTPException(408, "the body did not arrive in time", CLOSE) from None
            taken += len(message.get("body", b""))
            if taken > self.access.largest:
                raise HTTPException(413, f"the body is larger than {self.access.largest} bytes", CLOSE)
            complete = not message.get("more_body")
            return message

        return bounded

    def _refusal(self, scope: Scope, headers: dict[bytes, bytes]) -> ApiError | None:
        access, path = self.access, scope["path"].removeprefix(self.access.root_path)
        if access.hosts is not None:
            # Without this check, a page of another site could reach the server through a name that resolves to this
            # machine.
            given = headers.get(b"host", b"").decode("latin-1")
            if _host(given) not in access.hosts:
                text = f"the host {errors.quoted(given)} is not one of {', '.join(sorted(access.hosts))}"
                return ApiError(403, f"{text}: see --allowed-host", code="host_not_allowed", headers=CLOSE)
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > access.largest:
            text = f"the body is larger than the {access.largest} bytes that this server takes"
            return ApiError(413, text, code="body_too_large", headers=CLOSE)
        if (encoding := headers.get(b"content-encoding", b"identity").decode("latin-1").lower()) != "identity":
            text = f"the body is encoded as {errors.quoted(encoding)}: send it as it is, without Content-Encoding"
            return ApiError(415, text, code="unsupported_encoding", headers=CLOSE)
        if access.token is None or path in OPEN or path.startswith("/assets/"):
            return None
        kind, _, given = headers.get(b"authorization", b"").partition(b" ")
        if kind.lower() == b"bearer" and secrets.compare_digest(given.strip(), access.token.encode()):
            return None
        text = "this server needs a token: Authorization: Bearer ..."
        return ApiError(401, text, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"} | CLOSE)


def _host(given: str) -> str | None:
    """Return the name in a Host header, in lower case, without port and brackets."""
    try:
        return urlsplit(f"//{given}").hostname
    except ValueError:
        return None


def _request_id(given: bytes | None) -> bytes:
    """Keep a client's id for its request, or make one."""
    if given and len(given) <= 128 and given.isascii() and given.decode().isprintable():
        return given
    return uuid.uuid4().hex.encode()


class EventStream(StreamingResponse):
    """Server-sent events; a piece that the client does not take within `patience` seconds ends the answer.

    `release` is called when the answer is over, also if the client went away before it began.
    """

    def __init__(self, content: AsyncIterator[str], patience: float, release: Callable[[], None]):
        # Proxies such as nginx would buffer the events.
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(content, media_type="text/event-stream", headers=headers)
        self.patience = patience
        self.release = release

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.release()

    async def stream_response(self, send: Send) -> None:
        """Send the events."""

        async def timely(message: Message) -> None:
            await asyncio.wait_for(send(message), self.patience)

        try:
            await super().stream_response(timely)
        except TimeoutError:
            # Sent text cannot be recalled; the server closes a connection with an unfinished answer.
            return
        finally:
            await self.body_iterator.aclose()
