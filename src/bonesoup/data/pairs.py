"""Gather preference pairs into records: prompts cut to length, keys for the split, chosen texts for SFT."""

from collections.abc import Sequence
from dataclasses import dataclass

from bonesoup.data.records import Messages, Records, normal, prompt_id, prompt_key


@dataclass(frozen=True)
class Pair:
    prompt: Messages
    chosen: str
    rejected: str


class Pairs:
    """Preference pairs of one source, in its order."""

    def __init__(self, max_prompt_chars: int):
        self._limit = max_prompt_chars
        self._prompts: dict[str, Messages] = {}
        self._groups: dict[str, tuple[str, ...]] = {}
        self._pairs: list[dict] = []
        self._lines: dict[tuple[str, str, str], int] = {}
        self._sft: dict[tuple[str, str], dict] = {}
        self._cuts = 0

    def __len__(self) -> int:
        return len(self._pairs)

    def add(self, line: int, pair: Pair) -> int | None:
        """Add a pair, unless it is there already: then return the line that it repeats."""
        prompt, chosen, rejected = cut(pair.prompt, self._limit), pair.chosen, pair.rejected
        key = prompt_id(prompt)
        first = self._lines.setdefault((key, chosen, rejected), line)
        if first != line:
            return first
        self._cuts += prompt != pair.prompt
        self._prompts[key] = prompt
        # Dialogues with the same opening are often stages of one conversation, so they share a split.
        opening = normal(pair.prompt[0]["content"])
        self._groups[key] = (*self._groups.get(key, ()), opening, prompt_key(prompt))
        self._pairs.append({"id": str(line), "prompt": prompt, "chosen": chosen, "rejected": rejected})
        self._sft.setdefault((key, chosen), {"id": str(line), "prompt": prompt, "response": chosen})
        return None

    def records(self, objectives: Sequence[str], quarantine: list[dict], rows_read: int, **counts: int) -> Records:
        """Return everything added, as pairs of each objective and as SFT texts."""
        return Records(
            prompts=list(self._prompts.values()),
            groups=self._groups,
            sft=list(self._sft.values()),
            rewards=dict.fromkeys(objectives, self._pairs),
            quarantine=sorted(quarantine, key=lambda entry: entry["line"]),
            rows_read=rows_read,
            counts={"prompts_cut": self._cuts, **counts, "repeated_sft_texts": len(self._pairs) - len(self._sft)},
        )


def cut(prompt: Messages, limit: int) -> Messages:
    """Keep the end of a dialogue in at most `limit` characters: whole turns, starting with the user.

    A last user turn that is too long alone loses its beginning.
    """
    kept, length = 0, 0
    for turn in reversed(prompt):
        length += len(turn["content"])
        if length > limit:
            break
        kept += 1
    if kept:
        kept -= 1 - kept % 2
        return prompt[-kept:]
    tail = prompt[-1]["content"][-limit:]
    # Drop a word cut in half, unless nothing else is left.
    tail = tail.split(maxsplit=1)[1] if len(tail.split(maxsplit=1)) == 2 else tail
    return [{"role": "user", "content": tail.strip()}]
