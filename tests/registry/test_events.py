import json
import time

import pytest
from mlflow.entities.webhook import WebhookEvent
from mlflow.webhooks import delivery

from bonesoup.registry import events

KEY = "sixteen letters and more"
BODY = events.alias_event("bonesoup-soup", "champion", "3", decision={"reason": "größer"})


def test_the_signature_is_the_one_that_mlflow_computes():
    expected = delivery._generate_hmac_signature(KEY, "delivery", "1700000000", BODY.decode())
    assert events.signature(KEY, "delivery", "1700000000", BODY) == expected


def test_an_event_has_the_form_of_mlflows():
    event, taken = json.loads(BODY), json.loads(events.alias_event("bonesoup-soup", "champion", None))
    assert event["data"] == {"name": "bonesoup-soup", "alias": "champion", "version": "3"}
    assert taken["data"] == {"name": "bonesoup-soup", "alias": "champion"}
    for sent in (event, taken):
        WebhookEvent.from_str(f"{sent['entity']}.{sent['action']}")


def test_an_event_signed_just_now_is_taken():
    assert events.fault(KEY, events.headers(KEY, BODY), BODY) is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({events.DELIVERY: "other"}, "not signed with the secret"),
        ({events.SIGNATURE: "v1,\u00fc"}, "not signed with the secret"),
        ({events.TIMESTAMP: "\u00b2"}, "not sent within the last 300 seconds"),
        ({events.TIMESTAMP: "-1"}, "not sent within the last 300 seconds"),
    ],
)
def test_an_event_with_other_headers_is_refused(change, reason):
    assert reason in events.fault(KEY, events.headers(KEY, BODY) | change, BODY)


def test_an_event_with_another_body_secret_or_time_is_refused():
    headers = events.headers(KEY, BODY)
    later = {events.TIMESTAMP: str(int(headers[events.TIMESTAMP]) + 100)}
    for given, body in (
        (headers, BODY.replace(b'"3"', b'"4"')),
        (events.headers("another secret of a server", BODY), BODY),
        (headers | later, BODY),
    ):
        assert "not signed with the secret" in events.fault(KEY, given, body)


def test_an_event_that_is_sent_again_later_is_refused(monkeypatch):
    headers = events.headers(KEY, BODY)
    now = time.time()
    for later in (301, -301):
        monkeypatch.setattr(time, "time", lambda later=later: now + later)
        assert "not sent within the last 300 seconds" in events.fault(KEY, headers, BODY)


@pytest.mark.parametrize("name", [events.SIGNATURE, events.TIMESTAMP, events.DELIVERY])
def test_a_missing_header_is_named(name):
    headers = events.headers(KEY, BODY)
    del headers[name]
    assert events.fault(KEY, headers, BODY) == f"the event has no header {name}"


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({events.SECRET: "short", events.URLS: "http://a/"}, "has 5 characters: use at least 16"),
        ({events.URLS: "http://127.0.0.1:1/"}, "there is no BONESOUP_EVENTS_SECRET to sign events with"),
        ({events.SECRET: KEY, events.URLS: "http://a/ ftp://token@b/"}, "address 2 .* must begin with http://"),
        ({events.SECRET: KEY, events.URLS: "http://"}, "address 1 .* and name a host"),
    ],
)
def test_wrong_settings_are_named_without_secrets(monkeypatch, variables, message):
    monkeypatch.delenv(events.SECRET, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=message) as error:
        events.receivers()
    assert "token" not in str(error.value)
    assert KEY not in str(error.value)
