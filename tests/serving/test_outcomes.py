"""Outcomes over HTTP: answered at the preference that promises them, or refused with the nearest that can be."""

from dataclasses import replace

import pytest
from in_process import CHAT, ask

from bonesoup.serving.app import application
from bonesoup.serving.live import Live

OUTCOME = {"harmless": ">= 0.4", "maximize": "helpful"}
BEST = {"helpful": 0.25, "harmless": 0.75}


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("/v1/chat/completions", CHAT),
        ("/v1/completions", {"prompt": "bake mixed", "seed": 1}),
        ("/v1/responses", {"input": "bake mixed", "seed": 1}),
        ("/v1/score", {"prompt": "bake", "answers": [" mixed"]}),
    ],
)
def test_an_outcome_is_answered_at_the_preference_that_promises_it(live, metrics, route, body):
    app = application(lambda: live, metrics)
    answers = [
        ask(app, "POST", route, json=body | {"model": "bonesoup-soup-1", "preference": preference}).json()
        for preference in (OUTCOME, BEST)
    ]
    steered = [answer["data"][0] if route == "/v1/score" else answer for answer in answers]
    outcome = steered[0].pop("outcome")
    assert outcome["asked"] == "harmless >= 0.4, maximize helpful"
    assert outcome["floor"]["harmless"] == pytest.approx(0.525)
    assert (outcome["unit"], outcome["confidence"], outcome["prompts"]) == ("gold", 0.95, 100)
    assert steered[0]["preference"] == BEST
    for answer in answers:
        for name in ("id", "created", "created_at", "output"):
            answer.pop(name, None)
    assert answers[0] == answers[1]


@pytest.mark.parametrize("spelling", ["harmless>=0.4,maximize=helpful", "harmless>=0.4+maximize:helpful"])
def test_an_outcome_as_text_in_name_header_query_and_among_several(live, metrics, spelling):
    app = application(lambda: live, metrics)
    body = CHAT | {"model": "bonesoup-soup-1"}
    for change, headers in (
        ({"model": f"bonesoup-soup-1@{spelling}"}, {}),
        ({"preference": spelling}, {}),
        ({}, {"X-Bonesoup-Preference": spelling}),
        ({"preference": OUTCOME}, {"X-Bonesoup-Preference": "helpful=0.25,harmless=0.75"}),
    ):
        answer = ask(app, "POST", "/v1/chat/completions", json=body | change, headers=headers).json()
        assert answer["preference"] == BEST
        assert answer["outcome"]["floor"]["harmless"] == pytest.approx(0.525)
    meaning = ask(app, "GET", "/v1/soup/coefficients", params={"preference": spelling}).json()
    assert meaning["outcome"]["floor"] == answer["outcome"]["floor"]
    several = ask(app, "POST", "/v1/chat/completions", json=body | {"preferences": [OUTCOME, "balanced"]}).json()
    assert [choice["preference"] for choice in several["choices"]] == [BEST, {"helpful": 0.5, "harmless": 0.5}]
    assert ["outcome" in choice for choice in several["choices"]] == [True, False]
    streamed = ask(app, "POST", "/v1/chat/completions", json=body | {"preference": OUTCOME, "stream": True}).text
    assert all('"preference": {"helpful": 0.25' in line for line in streamed.splitlines() if "{" in line)


@pytest.mark.parametrize(
    ("preference", "code", "words"),
    [
        (
            {"harmless": ">= 3", "maximize": "helpful"},
            "unreachable_outcome",
            "the nearest that can is harmless >= 0.8, at helpful=0,harmless=1; scores are the gold",
        ),
        ({"harmless": ">= 0.4"}, "invalid_preference", "names no objective to maximize"),
        ({"harmless": 0.4, "maximize": "helpful"}, "invalid_value", "an outcome such as"),
        ({"harmless": "at least 0.4", "maximize": "helpful"}, "invalid_preference", "expected '>= NUMBER'"),
    ],
)
def test_an_outcome_that_cannot_be_promised_is_refused_with_the_nearest_that_can(
    live, metrics, preference, code, words
):
    body = CHAT | {"model": "bonesoup-soup-1", "preference": preference}
    answer = ask(application(lambda: live, metrics), "POST", "/v1/chat/completions", json=body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == (code, "preference")
    assert words in error["message"]


def test_a_soup_that_was_not_measured_says_so_when_it_is_asked_for_an_outcome(live, metrics):
    unmeasured = Live(replace(live.source, front=None), live.engine, live.bounds)
    body = CHAT | {"model": "bonesoup-soup-1", "preference": OUTCOME}
    answer = ask(application(lambda: unmeasured, metrics), "POST", "/v1/chat/completions", json=body)
    assert answer.status_code == 400
    assert "no measured front" in answer.json()["error"]["message"]
