"""Events of the registry: taken if they are signed, and refused without `--follow`."""

import asyncio

import httpx
import pytest

from bonesoup.registry import events
from bonesoup.serving.app import application
from bonesoup.serving.hooks import PATH, Hook
from bonesoup.serving.metrics import Metrics
from bonesoup.serving.middleware import Access

KEY = "sixteen letters and more"
BODY = events.alias_event("bonesoup-soup", "champion", "3")


def post(hook: Hook | None, headers: dict[str, str]) -> httpx.Response:
    app = application(lambda: None, Metrics(), Access(token="a token of clients"), hook)

    async def run():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as client:
            return await client.post(PATH, content=BODY, headers=headers)

    return asyncio.run(run())


def test_a_signed_event_needs_no_token_and_has_the_registry_checked():
    looked = []
    answer = post(Hook(KEY, lambda: looked.append(1)), events.headers(KEY, BODY))
    assert (answer.status_code, looked) == (202, [1])


@pytest.mark.parametrize("headers", [{}, events.headers("another secret of a server", BODY)])
def test_any_other_event_is_refused(headers):
    looked = []
    answer = post(Hook(KEY, lambda: looked.append(1)), headers)
    assert (answer.status_code, answer.json()["error"]["code"], looked) == (401, "invalid_signature", [])


def test_a_server_that_follows_nothing_says_so():
    answer = post(None, events.headers(KEY, BODY))
    assert answer.status_code == 404
    assert "start it with --follow and BONESOUP_EVENTS_SECRET" in answer.json()["error"]["message"]
