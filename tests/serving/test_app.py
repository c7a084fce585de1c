"""The application in process: its health when the engine is broken, and the headers on every answer."""

import asyncio
from dataclasses import replace
from types import SimpleNamespace

import httpx
import pytest
from soup_server import fronts

from bonesoup.generation.soup import SoupModel
from bonesoup.method.preferences import lattice
from bonesoup.serving import completions, steering
from bonesoup.serving.app import application
from bonesoup.serving.completions import Bounds, Live
from bonesoup.serving.engine import Engine, Limits
from bonesoup.serving.metrics import Metrics
from bonesoup.serving.source import from_folder


@pytest.fixture(scope="module")
def metrics():
    return Metrics()


@pytest.fixture(scope="module")
def live(version, metrics):
    source = from_folder(version)
    main, *others = source.soups.values()
    engine = Engine(SoupModel.load(main, beside=others), Limits(batch=4, queue=4, seconds=30), metrics)
    yield Live(source, engine, Bounds(64, 32))
    engine.close()
    engine.join()


def ask(app, method: str, path: str, **options) -> httpx.Response:
    async def run():
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return await client.request(method, path, **options)

    return asyncio.run(run())


CHAT = {"messages": [{"role": "user", "content": "bake mixed"}], "seed": 1}


def test_an_answer_in_process(live, metrics):
    app = application(lambda: live, metrics)
    answer = ask(app, "POST", "/v1/chat/completions", json=CHAT | {"model": "bonesoup-soup-1@balanced"}).json()
    assert answer["preference"] == {"helpful": 0.5, "harmless": 0.5}
    assert answer["choices"][0]["message"]["content"]
    assert 'bonesoup_requests_total{route="/v1/chat/completions",status="200"}' in metrics.text().decode()


def test_what_changes_no_answer_is_ignored(live, metrics):
    app = application(lambda: live, metrics)
    body = CHAT | {"model": "bonesoup-soup-1"}
    plain = ask(app, "POST", "/v1/chat/completions", json=body).json()["choices"]
    neutral = {"presence_penalty": 0, "logit_bias": {}, "logprobs": False, "tools": [], "top_k": -1}
    ignored = {"user": "me", "metadata": {"a": "b"}, "store": True, "unheard_of": 1}
    assert ask(app, "POST", "/v1/chat/completions", json=body | neutral | ignored).json()["choices"] == plain


def test_a_broken_engine_shows_in_health_and_in_every_answer(live, metrics):
    broken = SimpleNamespace(source=live.source, bounds=live.bounds, tokenizer=live.tokenizer)
    broken.engine = Engine(live.engine.policy, live.engine.limits, metrics)
    broken.engine.close()
    broken.engine.join()
    broken.engine.fault = "the engine stopped: no memory"
    app = application(lambda: broken, metrics)
    health = ask(app, "GET", "/health")
    assert health.status_code == 503
    assert health.json()["fault"] == "the engine stopped: no memory"
    answer = ask(app, "POST", "/v1/chat/completions", json=CHAT | {"model": "bonesoup-soup-1"})
    assert answer.status_code == 503
    assert answer.json()["error"]["message"] == "the engine stopped: no memory"
    assert answer.headers["retry-after"]


@pytest.mark.parametrize(
    ("path", "status"), [("/health", 200), ("/v1/soup", 200), ("/nowhere", 404), ("/v1/models/x", 404)]
)
def test_every_answer_carries_the_headers_that_bound_the_page(live, metrics, path, status):
    answer = ask(application(lambda: live, metrics), "GET", path)
    assert answer.status_code == status
    assert answer.headers["content-security-policy"].startswith("default-src 'self'")
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_what_nobody_expected_is_a_500_in_the_same_form(metrics):
    def nothing():
        raise LookupError("a secret path")

    answer = ask(application(nothing, metrics), "GET", "/v1/soup")
    assert answer.status_code == 500
    assert answer.json()["error"]["message"] == "unexpected LookupError; the server's log has the rest"
    assert "content-security-policy" in answer.headers


def test_a_stream_whose_text_cannot_be_made_breaks_off_instead_of_hanging(live, metrics, monkeypatch):
    def broken(*_, **__):
        raise LookupError("no such token")

    monkeypatch.setattr(completions.Pieces, "push", broken)
    app = application(lambda: live, metrics)
    body = CHAT | {"model": "bonesoup-soup-1", "stream": True}
    with pytest.raises(LookupError):
        asyncio.run(asyncio.wait_for(stream_of(app, body), 10))
    monkeypatch.undo()
    assert ask(app, "POST", "/v1/chat/completions", json=body | {"stream": False}).status_code == 200


async def stream_of(app, body: dict) -> str:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
        return (await client.post("/v1/chat/completions", json=body)).text


def test_a_request_that_meets_a_change_of_versions_goes_to_the_new_one(live, metrics):
    closed = Live(live.source, Engine(live.engine.policy, live.engine.limits, metrics), live.bounds)
    closed.engine.close()
    closed.engine.join()
    answers = iter([closed])
    app = application(lambda: next(answers, live), metrics)
    answer = ask(app, "POST", "/v1/chat/completions", json=CHAT | {"model": "bonesoup-soup-1"})
    assert answer.status_code == 200


def test_three_objectives_expect_the_nearest_measured_point(version3):
    source = from_folder(version3)
    assert steering.expected(source, "bone", source.default) is None
    measured = replace(source, front=fronts(list(source.objectives), lattice(3, 4).tolist()))
    near = steering.expected(measured, "bone", {"helpful": 0.52, "harmless": 0.24, "humor": 0.24})
    exact = steering.expected(measured, "bone", {"helpful": 0.5, "harmless": 0.25, "humor": 0.25})
    assert (near["from"], exact["from"]) == ("nearest", "measured")
    assert near["mean"] == exact["mean"]
