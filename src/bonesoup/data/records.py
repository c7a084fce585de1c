"""The rows that every source hands to `prepare`, not yet split, and those set aside."""

from dataclasses import dataclass
from typing import Any

from bonesoup.files import digest

Messages = list[dict[str, str]]  # [{"role": "user" | "assistant", "content": str}, ...], ending with a user turn


@dataclass(frozen=True)
class Records:
    """Rows of one source.

    prompts: distinct prompts, in source order.
    groups: prompt id -> keys; prompts that share a key must fall into one split.
    sft: {"id", "prompt", "response"}.
    rewards: objective -> pairs {"id", "prompt", "chosen", "rejected"}, or labelled responses
        {"id", "prompt", "response", "label"}.
    quarantine: {"file", "line", "reason", "excerpt"}.
    """

    prompts: list[Messages]
    groups: dict[str, tuple[str, ...]]
    sft: list[dict[str, Any]]
    rewards: dict[str, list[dict[str, Any]]]
    quarantine: list[dict[str, Any]]
    rows_read: int
    counts: dict[str, int]


def message(text: str) -> Messages:
    """Return a prompt with a single user turn."""
    return [{"role": "user", "content": text}]


def prompt_id(prompt: Messages) -> str:
    """Return an id that the same prompt has in every table, run and seed."""
    return "p" + digest(prompt)[:12]


def normal(text: str) -> str:
    """Normalise text to look for leakage: case and white space do not make a new prompt."""
    return " ".join(text.casefold().split())


def prompt_key(prompt: Messages) -> str:
    """Return the form of a prompt that is compared to look for leakage."""
    return normal("\n".join(turn["content"] for turn in prompt))
