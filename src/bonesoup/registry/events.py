"""Signed events about aliases, in the form of MLflow's registry webhooks: a receiver needs one check for both."""

import base64
import hmac
import json
import os
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

SECRET = "BONESOUP_EVENTS_SECRET"
URLS = "BONESOUP_EVENTS_URL"
SHORTEST = 16
SIGNATURE, TIMESTAMP, DELIVERY = "X-MLflow-Signature", "X-MLflow-Timestamp", "X-MLflow-Delivery-Id"
# Seconds for which an event is valid, and by which the clocks of sender and receiver may differ.
VALID = 300


def secret() -> str | None:
    """Read the secret that senders and receivers of events share; None if there is none.

    Raises:
        ValueError: it can be guessed.
    """
    text = os.environ.get(SECRET, "").strip()
    if text and len(text) < SHORTEST:
        raise ValueError(
            f"{SECRET} has {len(text)} characters: use at least {SHORTEST}, as from `openssl rand -hex 32`"
        )
    return text or None


def receivers() -> list[str]:
    """Read the addresses to send to from BONESOUP_EVENTS_URL, separated by spaces.

    Raises:
        ValueError: there is no secret to sign with, or one is no HTTP address.
    """
    urls = os.environ.get(URLS, "").split()
    if urls and not secret():
        raise ValueError(f"{URLS} names receivers of events, and there is no {SECRET} to sign events with")
    for number, url in enumerate(urls, start=1):
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            # An address may contain a token, so it is not quoted.
            raise ValueError(f"address {number} in {URLS} must begin with http:// or https:// and name a host")
    return urls


def alias_event(model: str, alias: str, version: str | None, **more: Any) -> bytes:
    """Write the event of an alias that has moved to `version`, or that was taken away if it is None.

    Args:
        more: further entries, which MLflow's own events do not have.
    """
    data = {"name": model, "alias": alias} | ({"version": version} if version else {})
    action = "created" if version else "deleted"
    event = {"entity": "model_version_alias", "action": action, "timestamp": datetime.now(UTC).isoformat()}
    return json.dumps(event | {"data": data} | more).encode()


def headers(key: str, body: bytes) -> dict[str, str]:
    """Return the headers of an event that is sent now, signed with the secret `key`."""
    delivery, now = str(uuid.uuid4()), str(int(time.time()))
    signed = {DELIVERY: delivery, TIMESTAMP: now, SIGNATURE: signature(key, delivery, now, body)}
    return {"Content-Type": "application/json"} | signed


def signature(key: str, delivery: str, timestamp: str, body: bytes) -> str:
    """Sign an event by HMAC-SHA256, as MLflow and the Standard Webhooks specification do."""
    content = f"{delivery}.{timestamp}.".encode() + body
    return f"v1,{base64.b64encode(hmac.digest(key.encode(), content, 'sha256')).decode()}"


def fault(key: str, given: Mapping[str, str], body: bytes) -> str | None:
    """Say why an event is refused; None if it was signed with the secret `key` just now.

    Args:
        given: the request's headers, found whatever their case.
    """
    if missing := [name for name in (DELIVERY, TIMESTAMP, SIGNATURE) if name not in given]:
        return f"the event has no header {missing[0]}"
    timestamp = given[TIMESTAMP]
    if not (timestamp.isascii() and timestamp.isdigit()) or abs(time.time() - int(timestamp)) > VALID:
        return f"the event was not sent within the last {VALID} seconds"
    expected = signature(key, given[DELIVERY], timestamp, body)
    if not hmac.compare_digest(expected.encode(), given[SIGNATURE].encode()):
        return "the event was not signed with the secret of this server"
    return None
