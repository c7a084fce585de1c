"""Ask an application in this process, without a server."""

import asyncio

import httpx

CHAT = {"messages": [{"role": "user", "content": "bake mixed"}], "seed": 1}


def ask(app, method: str, path: str, **options) -> httpx.Response:
    """Send a request; an exception of the application becomes its answer."""

    async def run():
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return await asyncio.wait_for(client.request(method, path, **options), 60)

    return asyncio.run(run())
