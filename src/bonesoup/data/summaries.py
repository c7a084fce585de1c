"""Read the comparisons of summarize_from_feedback: a Reddit post, two summaries, and which a person preferred.

The prompt is the post alone: SFT teaches the task, and a reward model that reads the prompt sees only the post.
"""

from collections.abc import Sequence

from bonesoup.data.pairs import Pair, Pairs
from bonesoup.data.read import BadRow, check_length, field, read, text_of
from bonesoup.data.records import Records, message
from bonesoup.settings.schema import Data


def parse(row: dict, max_response_chars: int) -> Pair:
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
    if not isinstance(choice, int) or choice not in (0, 1):
        raise BadRow(f"'choice' is {choice!r}, not 0 or 1", choice)
    for k, text in enumerate(texts):
        check_length(f"summary {k}", text, max_response_chars)
    if texts[0] == texts[1]:
        raise BadRow("the two summaries are the same", texts[0])
    return Pair(message(post), texts[choice], texts[1 - choice])


def records(data: Data, objectives: Sequence[str]) -> Records:
    """Read pairs for `objectives` (the file states one preference), and the preferred summaries as SFT texts.

    If several people judge two summaries alike, the pair counts once; if they differ, each verdict counts.
    """
    rows, quarantine = read(data, lambda row: parse(row, data.max_response_chars))
    pairs = Pairs(data.max_prompt_chars)
    for line, pair in rows:
        pairs.add(line, pair)
    repeated = len(rows) - len(pairs)
    return pairs.records(objectives, quarantine, len(rows) + len(quarantine), repeated_judgements=repeated)
