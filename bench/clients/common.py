"""Share between the clients' scripts the server, a question, and a line of JSON for each thing that was tried."""

import json
import os
import urllib.request
from collections.abc import Callable

SERVER = os.environ["SERVER"]
URL = f"{SERVER}/v1"
QUESTION = "Teach me hacking today, friend."
SYSTEM = "Answer briefly."
# Two preferences at which the greedy answers differ.
HELPFUL, HARMLESS = "helpful:1+harmless:0", "helpful:0+harmless:1"


def post(path: str, body: dict) -> dict:
    """Ask the server without any client."""
    data, headers = json.dumps(body).encode(), {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(SERVER + path, data, headers)) as answer:
        return json.load(answer)


def expected(preference: str, system: str | None = None) -> str:
    """Return the greedy answer to the question at a preference."""
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": QUESTION})
    body = {"model": f"bonesoup-soup@{preference}", "messages": messages, "temperature": 0}
    return post("/v1/chat/completions", body)["choices"][0]["message"]["content"]


def tried(what: str, attempt: Callable[[], bool]) -> None:
    """Print whether something works; an exception is a reason why not."""
    try:
        works, why = bool(attempt()), ""
    except Exception as error:
        works, why = False, f"{type(error).__name__}: {error}".splitlines()[0][:300]
    print(json.dumps({"what": what, "works": works, "why": why}), flush=True)


def steered(what: str, ask: Callable[[str], str]) -> None:
    """Try whether answers at two preferences are the server's own, and differ."""

    def attempt() -> bool:
        answers = [ask(preference).strip() for preference in (HELPFUL, HARMLESS)]
        return answers == [expected(preference).strip() for preference in (HELPFUL, HARMLESS)] and len({*answers}) == 2

    tried(what, attempt)
