"""Read the comparisons of summarize_from_feedback: a Reddit post, two summaries, and which a person preferred.

The prompt is the post alone: SFT teaches the task, and a reward model that reads the prompt sees only the post.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from bonesoup.data.hh import cut
from bonesoup.data.read import BadRow, check_length, field, read, text_of
from bonesoup.data.records import Records, message, normal, prompt_id, prompt_key
from bonesoup.settings.schema import Data


@dataclass(frozen=True)
class Comparison:
    post: str
    chosen: str
    rejected: str


def parse(row: dict, max_response_chars: int) -> Comparison:
    """Read a row.

    Raises:
        BadRow: the row is no comparison of two summaries of a Reddit post.
    """
    info, summaries, choice = field(row, "info"), field(row, "summaries"), field(row, "choice")
    if not isinstance(info, dict):
        raise BadRow(f"'info' is {type(info).__name__}, not an object", info)
    if info.get("post") is None:
        raise BadRow("'info.post' is missing: about a news article, not a Reddit post", sorted(map(str, info)))
    post = text_of(info, "post", "info")
    if not isinstance(summaries, list) or len(summaries) != 2 or not all(isinstance(s, dict) for s in summaries):
        raise BadRow("'summaries' must be two objects", summaries)
    texts = [text_of(summary, "text", f"summaries[{k}]") for k, summary in enumerate(summaries)]
    if choice not in (0, 1):
        raise BadRow(f"'choice' is {choice!r}, not 0 or 1", choice)
    for k, text in enumerate(texts):
        check_length(f"summary {k}", text, max_response_chars)
    if texts[0] == texts[1]:
        raise BadRow("the two summaries are the same", texts[0])
    return Comparison(post, texts[choice], texts[1 - choice])


def records(data: Data, objectives: Sequence[str]) -> Records:
    """Read pairs for `objectives` (the file states one preference), and the preferred summaries as SFT texts.

    If several people judge two summaries alike, the pair counts once; if they differ, each verdict counts.
    """
    rows, quarantine = read(data, lambda row: parse(row, data.max_response_chars))
    rows_read = len(rows) + len(quarantine)
    prompts, groups, sft, pairs = {}, {}, [], []
    seen, texts, cuts = set(), set(), 0
    for line, comparison in rows:
        whole = message(comparison.post)
        prompt = cut(whole, data.max_prompt_chars)
        key = prompt_id(prompt)
        pair = (key, comparison.chosen, comparison.rejected)
        if pair in seen:
            continue
        seen.add(pair)
        cuts += prompt != whole
        prompts[key] = prompt
        groups[key] = (*groups.get(key, ()), normal(comparison.post), prompt_key(prompt))
        pairs.append({"id": str(line), "prompt": prompt, "chosen": comparison.chosen, "rejected": comparison.rejected})
        if (key, comparison.chosen) not in texts:
            texts.add((key, comparison.chosen))
            sft.append({"id": str(line), "prompt": prompt, "response": comparison.chosen})
    return Records(
        prompts=list(prompts.values()),
        groups=groups,
        sft=sft,
        rewards=dict.fromkeys(objectives, pairs),
        quarantine=quarantine,
        rows_read=rows_read,
        counts={
            "prompts_cut": cuts,
            "repeated_judgements": len(rows) - len(pairs),
            "repeated_sft_texts": len(pairs) - len(sft),
        },
    )
