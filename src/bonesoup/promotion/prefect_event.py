"""Tell a Prefect server that the champion has changed, so that its automations can act on it.

By one request to the server's API: the command must not wait for Prefect's own client, which is large, and which tries
a server that is down for longer than PATIENCE.
"""

import base64
import os
import uuid
from datetime import UTC, datetime

import requests

from bonesoup.promotion.champion import Decision

# Prefect's own variables.
API, KEY, LOGIN = "PREFECT_API_URL", "PREFECT_API_KEY", "PREFECT_API_AUTH_STRING"
MOVED, REMOVED = "bonesoup.champion.moved", "bonesoup.champion.removed"
# Seconds that the server may take to connect, and to answer. It is asked once: a retrain evaluates the champion anyway.
PATIENCE = 2


def event(decision: Decision) -> dict:
    """Return the event of a decision that moved the alias, in the form of Prefect's API."""
    model = decision.version.partition("/")[0]
    return {
        "id": str(uuid.uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": MOVED if decision.after else REMOVED,
        "resource": {"prefect.resource.id": f"bonesoup.model.{model}", "prefect.resource.name": model},
        "payload": {
            "version": decision.after,
            "previous": decision.before,
            "action": decision.action,
            "reason": decision.reason,
        },
    }


def send(api: str, body: dict) -> str | None:
    """Send an event to the server at `api`; return the reason if it did not take it."""
    headers = {}
    if key := os.environ.get(KEY):
        headers["Authorization"] = f"Bearer {key}"
    elif login := os.environ.get(LOGIN):
        headers["Authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"
    url = f"{api.rstrip('/')}/events"
    try:
        answer = requests.post(url, json=[body], headers=headers, timeout=PATIENCE, allow_redirects=False)
    except requests.RequestException as error:
        return type(error).__name__
    return None if answer.status_code == requests.codes.no_content else f"status {answer.status_code}"
