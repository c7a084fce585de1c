"""Read prompts from a file that no pipeline prepared: JSON lines with `prompt`, or one prompt a line as plain text."""

import json
import unicodedata
from pathlib import Path
from typing import Any

from bonesoup.data.gold import topic_of
from bonesoup.data.read import BadRow, text_of
from bonesoup.data.records import Messages, message, prompt_id
from bonesoup.data.words import load

ROLES = ("user", "assistant", "system")
FAULTS_SHOWN = 20
EXPECTED = 'Give one JSON object a line, {"prompt": "..."}, or one prompt a line as plain text'


def read_prompts(path: Path) -> list[dict]:
    """Return {"id", "prompt": chat messages} for every line, in order.

    A file whose first character is `{` is read as JSON lines: `prompt` is a string, or chat messages
    ({"role", "content"}) of which the last is the user's. One that begins with `[` is refused as
    a JSON array. Any other file is plain text.

    Raises:
        ValueError: no such file, not UTF-8, an array, bad lines (each with its number), or fewer than two prompts.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not valid UTF-8: {error}") from None
    if text.lstrip().startswith("["):
        raise ValueError(
            f"{path} begins with [ like a JSON array, which is not read. {EXPECTED} (a prompt that begins with [ "
            "goes into an object)"
        )
    parse = _json if text.lstrip().startswith("{") else _plain
    prompts, faults = [], []
    # Not splitlines(), which also splits at characters that a prompt may contain.
    lines = text.removesuffix("\n").split("\n")
    for number, line in enumerate(lines, start=1):
        try:
            prompt = parse(line.strip())
            for turn in prompt:
                _printable(turn["content"])
            prompts.append({"id": f"{number}-{prompt_id(prompt)}", "prompt": prompt})
        except BadRow as fault:
            faults.append(f"  - line {number}: {fault}")
    if faults:
        more = f"\n  and {len(faults) - FAULTS_SHOWN} more" if len(faults) > FAULTS_SHOWN else ""
        raise ValueError(
            f"{path} has {len(faults)} bad line{'s' * (len(faults) > 1)}:\n" + "\n".join(faults[:FAULTS_SHOWN]) + more
        )
    if len(prompts) < 2:
        raise ValueError(f"{path} has {len(prompts)} prompt: an interval needs two or more")
    return prompts


def _printable(text: str) -> None:
    strange = next((char for char in text if unicodedata.category(char) == "Cc" and char not in "\t\n\r"), None)
    if strange:
        raise BadRow(f"holds the control character U+{ord(strange):04X}: is this text? {EXPECTED}")


def _plain(line: str) -> Messages:
    if not line:
        raise BadRow("the line is empty")
    return message(line)


def _json(line: str) -> Messages:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadRow(f"not JSON: {error}") from None
    if not isinstance(row, dict):
        raise BadRow(f"not a JSON object but {type(row).__name__}")
    return parse(row)


def parse(row: dict) -> Messages:
    """Read the `prompt` of a row: a string, or chat messages of which the last is the user's.

    Raises:
        BadRow: `prompt` is neither.
    """
    if not isinstance(row.get("prompt"), list):
        return message(text_of(row, "prompt"))
    turns = [_turn(turn, place) for place, turn in enumerate(row["prompt"])]
    if not turns or turns[-1]["role"] != "user":
        raise BadRow("'prompt' must end with a message of the user")
    return turns


def _turn(turn: Any, place: int) -> dict[str, str]:
    where = f"prompt[{place}]"
    if not isinstance(turn, dict) or turn.get("role") not in ROLES:
        raise BadRow(f"{where} must be a message whose role is {', '.join(ROLES)}")
    return {"role": turn["role"], "content": text_of(turn, "content", where)}


def outside_the_task(prompts: list[dict], tables: Path) -> str | None:
    """Say why the embedded task's true score is not known for all prompts; return None if it is known."""
    words = load(tables)
    for row in prompts:
        try:
            topic_of(row["prompt"][-1]["content"], words)
        except ValueError as error:
            return f"line {row['id'].partition('-')[0]}: {error}"
    return None
