"""The application in process: health, headers, errors, limits, and a change of versions."""

import asyncio
import gc
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
from in_process import CHAT, ask
from soup_server import fronts, make_project

from bonesoup.generation.soup import Soup
from bonesoup.method.preferences import lattice
from bonesoup.serving import jobs, replies, responses, steering
from bonesoup.serving.app import application
from bonesoup.serving.engine import Engine
from bonesoup.serving.errors import ApiError
from bonesoup.serving.live import Live
from bonesoup.serving.middleware import Access
from bonesoup.serving.source import from_folder
from bonesoup.serving.text import plain_tokens


def test_an_answer_in_process(live, metrics):
    app = application(lambda: live, metrics)
    answer = ask(app, "POST", "/v1/chat/completions", json=CHAT | {"model": "bonesoup-soup-1@balanced"}).json()
    assert answer["preference"] == {"helpful": 0.5, "harmless": 0.5}
    assert answer["choices"][0]["message"]["content"]
    assert 'bonesoup_requests_total{route="/v1/chat/completions",status="200"}' in metrics.text().decode()


def test_fields_that_change_nothing_are_ignored(live, metrics):
    app = application(lambda: live, metrics)
    body = CHAT | {"model": "bonesoup-soup-1"}
    plain = ask(app, "POST", "/v1/chat/completions", json=body).json()["choices"]
    neutral = {"presence_penalty": 0, "logit_bias": {}, "logprobs": False, "tools": [], "top_k": -1}
    ignored = {"user": "me", "metadata": {"a": "b"}, "store": True, "service_tier": "auto"}
    assert ask(app, "POST", "/v1/chat/completions", json=body | neutral | ignored).json()["choices"] == plain


def test_a_broken_engine_shows_in_health_and_in_every_answer(live, metrics):
    broken = Live(live.source, Engine(live.engine.policy, live.engine.limits, metrics), live.bounds)
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


def test_without_scripts_the_page_says_what_it_needs(live, metrics):
    page = ask(application(lambda: live, metrics), "GET", "/").text
    assert "This page needs JavaScript" in page.split("<noscript>")[1].split("</noscript>")[0]


def test_what_nobody_expected_is_a_500_in_the_same_form(metrics):
    def nothing():
        raise LookupError("a secret path")

    answer = ask(application(nothing, metrics), "GET", "/v1/soup")
    assert answer.status_code == 500
    assert answer.json()["error"]["message"] == "unexpected LookupError; see the server's log"
    assert "content-security-policy" in answer.headers


def test_a_stream_whose_text_cannot_be_made_breaks_off_instead_of_hanging(live, metrics, monkeypatch):
    def broken(*_, **__):
        raise LookupError("no such token")

    monkeypatch.setattr(jobs.Pieces, "push", broken)
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

    def expected(source, **preference) -> dict | None:
        return steering.expected(source, steering.choose(source, source.name, ("preference", preference or None)))

    assert expected(source) is None
    measured = replace(source, front=fronts(list(source.objectives), lattice(3, 4).tolist()))
    near = expected(measured, helpful=0.52, harmless=0.24, humor=0.24)
    exact = expected(measured, helpful=0.5, harmless=0.25, humor=0.25)
    assert (near["from"], exact["from"]) == ("nearest", "measured")
    assert near["mean"] == exact["mean"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("HEAD", "/health", 200),
        ("HEAD", "/", 200),
        ("GET", "/v1/health", 200),
        ("GET", "/v1/models/bonesoup-soup-1@balanced", 200),
        ("GET", "/v1/models/bonesoup-soup-1@nonsense", 400),
        ("GET", "/v1/soup?preferance=balanced", 400),
        ("POST", "/v1/chat/completions?preference=balanced", 400),
        ("POST", "/v1/chat/completions?api-version=1", 200),
    ],
)
def test_paths_and_queries(live, metrics, method, path, status):
    body = {"json": CHAT | {"model": "bonesoup-soup-1"}} if method == "POST" else {}
    assert ask(application(lambda: live, metrics), method, path, **body).status_code == status


@pytest.mark.parametrize(
    ("content", "headers", "status", "words"),
    [
        (b"{}", {"Content-Type": "application/x-www-form-urlencoded"}, 415, "application/json"),
        (
            b"\x1f\x8b",
            {"Content-Type": "application/json", "Content-Encoding": "gzip"},
            415,
            "without Content-Encoding",
        ),
        (b'{"model": 1}x', {"Content-Type": "application/json"}, 400, "not JSON"),
        (b"[]", {"Content-Type": "application/json"}, 400, "JSON object"),
        (b'{"model": "' + b"x" * 200_000 + b'"}', {"Content-Type": "application/json"}, 400, "messages is required"),
    ],
)
def test_a_body_that_cannot_be_read_is_refused_in_one_short_sentence(live, metrics, content, headers, status, words):
    answer = ask(application(lambda: live, metrics), "POST", "/v1/chat/completions", content=content, headers=headers)
    error = answer.json()["error"]
    assert answer.status_code == status
    assert words in error["message"]
    assert len(answer.content) < 1000


def test_an_unknown_field_of_a_part_is_named_with_its_place(live, metrics):
    body = CHAT | {"model": "bonesoup-soup-1", "stream": True, "stream_options": {"usage": True}}
    error = ask(application(lambda: live, metrics), "POST", "/v1/chat/completions", json=body).json()["error"]
    assert error["message"] == "unknown field stream_options.usage: did you mean include_usage?"
    assert error["param"] == "stream_options.usage"


def test_a_long_name_is_not_echoed_in_full(live, metrics):
    answer = ask(
        application(lambda: live, metrics), "POST", "/v1/chat/completions", json=CHAT | {"model": "x" * 200_000}
    )
    assert answer.status_code == 404
    assert len(answer.content) < 1000


@pytest.mark.parametrize(("host", "status"), [("LocalHost:80", 200), ("[::1]:80", 200), ("evil", 403), ("a@b:c", 403)])
def test_a_host_is_compared_as_a_name(live, metrics, host, status):
    app = application(lambda: live, metrics, Access(hosts={"localhost", "::1"}))
    assert ask(app, "GET", "/health", headers={"Host": host}).status_code == status


def test_a_request_keeps_its_id_or_gets_one(live, metrics):
    app = application(lambda: live, metrics)
    assert ask(app, "GET", "/health", headers={"X-Request-Id": "mine-1"}).headers["x-request-id"] == "mine-1"
    made = {ask(app, "GET", "/health").headers["x-request-id"] for _ in range(2)}
    assert len(made) == 2


def test_a_path_under_a_proxy_with_and_without_its_prefix(live, metrics):
    app = application(lambda: live, metrics, Access(token="s3cret", root_path="/soup"))
    for path in ("/health", "/soup/health", "/soup/", "/soup/assets/desk.css"):
        assert ask(app, "GET", path).status_code == 200, path
    assert ask(app, "GET", "/soup/v1/soup").status_code == 401


@pytest.mark.parametrize(("system", "status"), [("fold", 200), ("refuse", 400)])
def test_system_messages_are_folded_or_refused_as_v1_models_says(live, metrics, system, status):
    here = Live(live.source, live.engine, replace(live.bounds, system=system))
    app = application(lambda: here, metrics)
    turns = [{"role": "system", "content": "warm"}, {"role": "user", "content": "bake"}]
    body = {"model": "bonesoup-soup-1", "messages": turns, "seed": 1}
    answer = ask(app, "POST", "/v1/chat/completions", json=body)
    assert answer.status_code == status
    assert ask(app, "GET", "/v1/models").json()["data"][0]["system_messages"] == system
    if status == 200:
        folded = body | {"messages": [{"role": "user", "content": "warm\n\nbake"}]}
        assert answer.json()["choices"] == ask(app, "POST", "/v1/chat/completions", json=folded).json()["choices"]


@pytest.mark.parametrize(("overlong", "status"), [("refuse", 400), ("cut", 200)])
def test_a_limit_that_does_not_fit_is_refused_or_cut_with_a_note(live, metrics, overlong, status):
    here = Live(live.source, live.engine, replace(live.bounds, overlong=overlong))
    body = CHAT | {"model": "bonesoup-soup-1", "max_tokens": 1000, "ignore_eos": True}
    answer = ask(application(lambda: here, metrics), "POST", "/v1/chat/completions", json=body)
    assert answer.status_code == status
    if status == 200:
        assert answer.json()["note"] == "max_tokens was cut from 1000 to 32, which is all that fits"
        assert answer.json()["usage"]["completion_tokens"] == 32
    else:
        assert answer.json()["error"]["param"] == "max_tokens"


@pytest.mark.parametrize(
    ("path", "body", "param", "said"),
    [
        ("/v1/chat/completions", CHAT | {"max_tokens": 1000}, "max_tokens", "max_tokens is 1000"),
        ("/v1/chat/completions", CHAT | {"max_completion_tokens": 1000}, "max_completion_tokens", "_tokens is 1000"),
        ("/v1/responses", {"input": "bake", "max_output_tokens": 1000}, "max_output_tokens", "_tokens is 1000"),
        ("/v1/responses", {"input": "bake " * 1000}, "input", "the prompt has"),
        ("/v1/completions", {"prompt": [10**6]}, "prompt", "token 1000000 is unknown"),
        ("/detokenize", {"tokens": [10**6]}, "tokens", "token 1000000 is unknown"),
        ("/v1/chat/completions", CHAT | {"preferences": [None]}, "preferences.0", "must be a mapping"),
    ],
)
def test_a_fault_names_the_field_that_the_client_wrote(live, metrics, path, body, param, said):
    answer = ask(application(lambda: live, metrics), "POST", path, json={"model": "bonesoup-soup-1"} | body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert said in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": "bake", "instructions": "warm"}, "instructions"),
        ({"input": [{"role": "user", "content": "bake"}, {"role": "system", "content": "warm"}]}, "input.1.role"),
    ],
)
def test_a_refused_system_message_of_a_response_is_found_where_it_was_written(live, metrics, body, param):
    here = Live(live.source, live.engine, replace(live.bounds, system="refuse"))
    answer = ask(application(lambda: here, metrics), "POST", "/v1/responses", json={"model": "bonesoup-soup-1"} | body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_a_request_solves_its_coefficients_once(live, metrics, monkeypatch):
    solved = []
    solve = Soup.coefficients
    monkeypatch.setattr(Soup, "coefficients", lambda self, preference: solved.append(1) or solve(self, preference))
    body = CHAT | {"model": "bonesoup-soup-1@balanced", "preference": "balanced"}
    assert ask(application(lambda: live, metrics), "POST", "/v1/chat/completions", json=body).status_code == 200
    assert len(solved) == 1


def test_each_of_several_answers_echoes_the_prompt_with_its_log_probabilities(live, metrics):
    body = {"model": "bonesoup-soup-1", "prompt": [7, 8], "echo": True, "logprobs": 0, "n": 2, "max_tokens": 1}
    answer = ask(application(lambda: live, metrics), "POST", "/v1/completions", json=body).json()
    first, second = (choice["logprobs"]["token_logprobs"] for choice in answer["choices"])
    assert first[:2] == pytest.approx(second[:2])
    assert len(first) == len(second) == 3


def test_more_rows_than_ever_fit_are_refused_without_asking_to_try_again(live, metrics):
    body = CHAT | {"model": "bonesoup-soup-1", "n": 8, "preferences": ["balanced", "balanced"]}
    answer = ask(application(lambda: live, metrics), "POST", "/v1/chat/completions", json=body)
    assert answer.status_code == 400
    assert "16 rows, but this server takes at most 8" in answer.json()["error"]["message"]


def test_metrics_tell_methods_apart(live, metrics):
    app = application(lambda: live, metrics)
    for name in ("bonesoup-soup-1", "bonesoup-soup-1/rewarded"):
        ask(app, "POST", "/v1/chat/completions", json=CHAT | {"model": name})
    text = ask(app, "GET", "/metrics").text
    for method in ("bone", "rewarded"):
        assert f'bonesoup_queue_seconds_count{{method="{method}"}}' in text
        assert f'bonesoup_answer_seconds_count{{method="{method}"}}' in text
    assert 'bonesoup_serving{model="bonesoup-soup-1",version="local"} 1.0' in text


def test_an_answer_is_of_the_schema_it_declares(live, metrics):
    app = application(lambda: live, metrics)
    named = {"model": "bonesoup-soup-1"}
    several = {"preferences": ["balanced", {"helpful": 1, "harmless": 0}]}
    asked = [
        ("/v1/chat/completions", CHAT | named | {"logprobs": True, "top_logprobs": 2}, replies.ChatCompletion),
        ("/v1/chat/completions", CHAT | named | several, replies.ChatCompletion),
        ("/v1/completions", named | {"prompt": [7, 8], "echo": True, "logprobs": 1}, replies.TextCompletion),
        ("/v1/responses", named | {"input": "bake"}, responses.Response),
        ("/v1/score", named | {"prompt": "bake", "answers": ["stir"], "logprobs": True}, replies.Scores),
    ]
    for path, body, model in asked:
        answer = ask(app, "POST", path, json=body)
        assert answer.status_code == 200, answer.text
        model.model_validate(answer.json(), strict=True)
    for path, model in (("/v1/soup", replies.SoupReply), ("/v1/models", replies.Models), ("/health", replies.Health)):
        model.model_validate(ask(app, "GET", path).json(), strict=True)
    schemas = ask(app, "GET", "/openapi.json").json()["paths"]
    assert "ChatCompletion" in str(schemas["/v1/chat/completions"]["post"]["responses"]["200"])


def test_given_answers_are_scored_by_the_rewards_of_the_run(live, metrics, tmp_path, monkeypatch):
    monkeypatch.chdir(make_project(tmp_path / "project", ["helpful", "harmless"]))
    rewarding = Live(replace(live.source, rewards=from_folder(Path(".")).rewards), live.engine, live.bounds)
    body = {"messages": CHAT["messages"], "answers": ["a b c", "a"]}
    answer = ask(application(lambda: rewarding, metrics), "POST", "/v1/soup/rewards", json=body)
    replies.Rewarded.model_validate(answer.json(), strict=True)
    assert answer.json()["objectives"] == ["helpful", "harmless"]
    # Minus the logarithm of the words and one, at half the scale for the second objective.
    assert np.array(answer.json()["scores"]["reward"]) == pytest.approx(-np.log([[4, 2], [2, 2**0.5]]))
    missing = ask(application(lambda: live, metrics), "POST", "/v1/soup/rewards", json=body)
    assert missing.status_code == 404
    assert missing.json()["error"]["code"] == "no_rewards"


def test_the_tokenizer_can_be_used_from_elsewhere(live, metrics):
    app = application(lambda: live, metrics)
    info = ask(app, "GET", "/tokenizer_info").json()
    assert info["eos_token"] == live.tokenizer.eos_token
    assert info["chat_template"] == live.tokenizer.chat_template
    # As lm-evaluation-harness asks.
    body = {"prompt": "bake mixed", "add_special_tokens": False}
    assert ask(app, "POST", "/tokenize", json=body).json()["tokens"] == plain_tokens(live.tokenizer, "bake mixed")
    assert ask(app, "POST", "/tokenize", json=body | {"add_special_tokens": True}).status_code == 400


def test_a_client_that_goes_away_leaves_no_failure_that_nobody_asked_for(caplog):
    """Waiting for answers ends with the client, and leaves asyncio nothing to report."""

    class Gone:
        async def receive(self) -> dict:
            return {"type": "http.disconnect"}

    async def run() -> None:
        released = []
        with pytest.raises(ApiError, match="went away"):
            await jobs.unless_gone(Gone(), [asyncio.sleep(60), asyncio.sleep(60)], lambda: released.append(1))
        assert released == [1]

    with caplog.at_level("ERROR", logger="asyncio"):
        asyncio.run(run())
        gc.collect()
    assert caplog.records == []
