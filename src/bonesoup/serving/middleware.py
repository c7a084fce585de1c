"""What stands before the routes, as plain ASGI: a token, a bound on bodies, headers, and counting."""

import secrets
from collections.abc import Collection

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bonesoup.serving import errors
from bonesoup.serving.metrics import Metrics

# The page loads what is its own, and nothing else.
HEADERS = {
    b"content-security-policy": b"default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
}
OPEN = ("/", "/health")


class Guard:
    """Refuses a request without the token, for another host, or with a body above the bound; counts all of them."""

    def __init__(self, app: ASGIApp, token: str | None, hosts: Collection[str] | None, largest: int, metrics: Metrics):
        self.app = app
        self.token = token
        self.hosts = hosts
        self.largest = largest
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        taken = 0

        async def bounded() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self.largest:
                # FastAPI passes this one on, and makes a 400 of any other.
                raise HTTPException(413, f"the body is larger than {self.largest} bytes")
            return message

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "other")
                self.metrics.requests.labels(route, message["status"]).inc()
                message["headers"] = [*message["headers"], *HEADERS.items()]
            await send(message)

        refusal = self._refusal(scope["path"], headers)
        if refusal:
            await refusal(scope, receive, counted)
        else:
            await self.app(scope, bounded, counted)

    def _refusal(self, path: str, headers: dict[bytes, bytes]) -> JSONResponse | None:
        if self.hosts is not None:
            host = headers.get(b"host", b"").decode("latin-1")
            # [::1]:8000 and 127.0.0.1:8000
            name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
            if name not in self.hosts:
                # Else a page of another site could reach the server under a name that leads to this machine.
                text = f"the host {host!r} is not one of {', '.join(sorted(self.hosts))}: see --allowed-host"
                return errors.answer(errors.ApiError(403, text, code="host_not_allowed"))
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self.largest:
            text = f"the body has {int(length)} bytes, this server takes {self.largest}"
            return errors.answer(errors.ApiError(413, text, code="body_too_large"))
        if self.token is None or path in OPEN or path.startswith("/assets/"):
            return None
        kind, _, given = headers.get(b"authorization", b"").partition(b" ")
        if kind.lower() == b"bearer" and secrets.compare_digest(given.strip(), self.token.encode()):
            return None
        text = "this server needs a token: Authorization: Bearer ..."
        return errors.answer(errors.ApiError(401, text, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"}))
