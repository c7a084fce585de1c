"""A streamed answer that does not wait for ever for a client that has stopped reading."""

import asyncio
from collections.abc import AsyncIterator, Callable

from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send


class Patient(StreamingResponse):
    """Server-sent events; a piece that cannot be handed on within `patience` seconds ends the answer.

    `release` is called when the answer is over, also where the client went away before it began.
    """

    def __init__(self, content: AsyncIterator[str], patience: float, release: Callable[[], None]):
        super().__init__(content, media_type="text/event-stream", headers={"Cache-Control": "no-store"})
        self.patience = patience
        self.release = release

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.release()

    async def stream_response(self, send: Send) -> None:
        async def timely(message: Message) -> None:
            await asyncio.wait_for(send(message), self.patience)

        try:
            await super().stream_response(timely)
        except TimeoutError:
            # What was sent stays sent; the server closes a connection whose answer has no end.
            return
        finally:
            await self.body_iterator.aclose()
