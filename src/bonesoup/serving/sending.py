"""A streamed answer that does not wait for ever for a client that has stopped reading."""

import asyncio
from collections.abc import AsyncIterator

from starlette.responses import StreamingResponse
from starlette.types import Message, Send


class Patient(StreamingResponse):
    """Server-sent events; a piece that cannot be handed on within `patience` seconds ends the answer."""

    def __init__(self, content: AsyncIterator[str], patience: float):
        super().__init__(content, media_type="text/event-stream", headers={"Cache-Control": "no-store"})
        self.patience = patience

    async def stream_response(self, send: Send) -> None:
        async def timely(message: Message) -> None:
            await asyncio.wait_for(send(message), self.patience)

        try:
            await super().stream_response(timely)
        except TimeoutError:
            # What was sent stays sent; the server closes a connection whose answer has no end.
            return
        finally:
            # The generator lets the rows go; without this it would do so whenever it is collected.
            await self.body_iterator.aclose()
