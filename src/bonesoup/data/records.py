"""The rows that every source hands to `prepare`, not yet split, and those set aside."""

from dataclasses import dataclass
from itertools import combinations
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


def joined(parts: dict[str, Records]) -> Records:
    """Join the records of several files, each about one objective.

    Ids of SFT texts and counts get the objective in front. A prompt or text that two files share counts once.

    Args:
        parts: objective -> its records.

    Raises:
        ValueError: two objectives have the same rows, so they would be one.
    """
    tables = {name: rows for part in parts.values() for name, rows in part.rewards.items()}
    for a, b in combinations(tables, 2):
        if tables[a] == tables[b]:
            raise ValueError(f"data.files: {a} and {b} have the same {len(tables[a])} rows; give each its own file")
    prompts, groups, sft = {}, {}, {}
    for name, part in parts.items():
        prompts |= {prompt_id(prompt): prompt for prompt in part.prompts}
        groups |= {prompt: groups.get(prompt, ()) + keys for prompt, keys in part.groups.items()}
        for row in part.sft:
            sft.setdefault((prompt_id(row["prompt"]), row["response"]), row | {"id": f"{name}-{row['id']}"})
    return Records(
        prompts=list(prompts.values()),
        groups=groups,
        sft=list(sft.values()),
        rewards=tables,
        quarantine=[entry for part in parts.values() for entry in part.quarantine],
        rows_read=sum(part.rows_read for part in parts.values()),
        counts={f"{name}: {count}": n for name, part in parts.items() for count, n in part.counts.items()},
    )


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
