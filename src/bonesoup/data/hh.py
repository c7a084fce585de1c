"""The hh-rlhf pair format: {"chosen", "rejected"}, two whole dialogues that differ in their last reply."""

import re
from collections.abc import Sequence

from bonesoup.data.pairs import Pair, Pairs
from bonesoup.data.read import BadRow, check_length, read, set_aside, text_of
from bonesoup.data.records import Messages, Records
from bonesoup.settings.schema import Data

TURN = re.compile(r"\n\n(Human|Assistant):")
ROLES = {"Human": "user", "Assistant": "assistant"}


def dialogue(text: str, name: str) -> Messages:
    """Split a dialogue into turns.

    Raises:
        BadRow: it does not alternate Human, Assistant, ..., ending with Assistant, or a turn is empty.
    """
    before, *parts = TURN.split("\n\n" + text.strip())
    turns = [{"role": ROLES[role], "content": turn.strip()} for role, turn in zip(parts[::2], parts[1::2], strict=True)]
    if before.strip() or not turns:
        raise BadRow(f"{name!r} does not start with 'Human:'", text.strip())
    for k, turn in enumerate(turns):
        if turn["role"] != ("user", "assistant")[k % 2]:
            raise BadRow(f"{name!r}: turn {k + 1} is a second {turn['role']} turn in a row", turn["content"])
        if not turn["content"]:
            raise BadRow(f"{name!r}: turn {k + 1} ({turn['role']}) is empty", text.strip()[-100:])
    if len(turns) % 2:
        raise BadRow(f"{name!r} does not end with an Assistant turn", turns[-1]["content"])
    return turns


def parse(row: dict, max_response_chars: int) -> Pair:
    """Read a row.

    Raises:
        BadRow: the row is not a pair of dialogues that differ in their last reply.
    """
    sides = {name: dialogue(text_of(row, name), name) for name in ("chosen", "rejected")}
    *prompt, chosen = sides["chosen"]
    *other, rejected = sides["rejected"]
    if prompt != other:
        raise BadRow(
            "the prompts of 'chosen' and 'rejected' differ",
            prompt[-1]["content"] + " | " + other[-1]["content"],
        )
    for name, reply in (("chosen", chosen), ("rejected", rejected)):
        check_length(f"the last reply of {name!r}", reply["content"], max_response_chars)
    if chosen["content"] == rejected["content"]:
        raise BadRow("'chosen' and 'rejected' are the same", chosen["content"])
    return Pair(prompt, chosen["content"], rejected["content"])


def records(data: Data, objectives: Sequence[str]) -> Records:
    """Read pairs for `objectives` (the file states one preference), and the chosen replies as SFT texts."""
    rows, quarantine = read(data, lambda row: parse(row, data.max_response_chars))
    rows_read = len(rows) + len(quarantine)
    pairs = Pairs(data.max_prompt_chars)
    for line, pair in rows:
        if (first := pairs.add(line, pair)) is not None:
            quarantine.append(set_aside(data, line, f"repeats line {first}", pair.chosen))
    return pairs.records(objectives, quarantine, rows_read)
