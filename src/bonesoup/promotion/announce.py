"""Tell other programs that the champion has changed, by signed webhooks.

For stores without a server, which have no webhooks themselves; a receiver cannot tell the difference. A promotion that
has happened stands, whether or not the receivers answer.
"""

from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from bonesoup.promotion.champion import MOVED, Decision
from bonesoup.registry import events
from bonesoup.registry.versions import CHAMPION

# Seconds that a receiver may take for each attempt. With three more attempts, all is over in half a minute.
PATIENCE = 5
FIRST_PAUSE = 0.5
BUSY = (429, 500, 502, 503, 504)


def announce(decision: Decision, urls: list[str]) -> list[str]:
    """Send a decision that moved the alias to all receivers; return a line for each that did not take it."""
    if decision.verdict not in MOVED or decision.dry_run or not urls:
        return []
    model, _, _ = decision.version.partition("/")
    number = decision.after.partition("/")[2] if decision.after else None
    about = {name: getattr(decision, name) for name in ("action", "verdict", "before", "after", "reason", "time")}
    body = events.alias_event(model, CHAMPION, number, decision=about)
    with ThreadPoolExecutor(len(urls)) as pool:
        return [line for line in pool.map(lambda url: _send(url, body), urls) if line]


def _send(url: str, body: bytes) -> str | None:
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
            problem = type(error).__name__
        else:
            if answer.ok and not answer.is_redirect:
                return None
            problem = f"status {answer.status_code}"
    return f"{urlsplit(url).hostname} was not told of the new champion: {problem}"
