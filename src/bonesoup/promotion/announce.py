"""Tell other programs that the champion has changed: by signed webhooks, and by an event of a Prefect server.

Webhooks are for stores without a server, which have none themselves; a receiver cannot tell the difference. A promotion
that has happened stands, whether or not the receivers answer.
"""

import os
import threading
import time
from functools import partial
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from bonesoup.promotion import prefect_event
from bonesoup.promotion.champion import MOVED, Decision
from bonesoup.registry import events
from bonesoup.registry.versions import CHAMPION

# Seconds that a receiver may stay silent at each attempt, and that all attempts together may take: a receiver that
# sends a byte now and then is never silent.
PATIENCE = 5
LONGEST = 30
FIRST_PAUSE = 0.5
BUSY = (429, 500, 502, 503, 504)


def announce(decision: Decision, urls: list[str]) -> list[str]:
    """Send a decision that moved the alias to all receivers; return a line for each that did not take it.

    Args:
        urls: receivers of webhooks; the Prefect server is the one that PREFECT_API_URL names, if it names any.
    """
    if decision.verdict not in MOVED or decision.dry_run:
        return []
    body = _webhook(decision)
    sends = [(url, partial(_send, url, body)) for url in urls]
    if api := os.environ.get(prefect_event.API):
        sends.append((api, partial(prefect_event.send, api, prefect_event.event(decision))))
    problems: dict[int, str | None] = {}
    # Daemons, so that the command can end before a receiver does.
    senders = [
        threading.Thread(target=lambda k=k, send=send: problems.update({k: send()}), daemon=True)
        for k, (_, send) in enumerate(sends)
    ]
    for sender in senders:
        sender.start()
    end = time.monotonic() + LONGEST
    for sender in senders:
        sender.join(max(0, end - time.monotonic()))
    late = f"no answer in {LONGEST} seconds"
    return [
        f"{urlsplit(url).hostname} was not told of the new champion: {problem}"
        for k, (url, _) in enumerate(sends)
        if (problem := problems.get(k, late))
    ]


def _webhook(decision: Decision) -> bytes:
    """Return the body for receivers of webhooks."""
    model, _, _ = decision.version.partition("/")
    number = decision.after.partition("/")[2] if decision.after else None
    about = {name: getattr(decision, name) for name in ("action", "verdict", "before", "after", "reason", "time")}
    return events.alias_event(model, CHAMPION, number, decision=about)


def _send(url: str, body: bytes) -> str | None:
    """Send an event; return the reason if the receiver did not take it."""
    again = Retry(
        total=3,
        backoff_factor=FIRST_PAUSE,
        status_forcelist=BUSY,
        allowed_methods=["POST"],
        raise_on_status=False,
        respect_retry_after_header=False,
    )
    with requests.Session() as session:
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(max_retries=again))
        headers = events.headers(events.secret(), body)
        try:
            answer = session.post(url, body, headers=headers, timeout=PATIENCE, allow_redirects=False)
        except requests.RequestException as error:
            return type(error).__name__
    return None if answer.ok and not answer.is_redirect else f"status {answer.status_code}"
