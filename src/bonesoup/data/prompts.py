"""Read prompts alone, as JSON lines with `prompt`, for a tuned model with computed rewards."""

from collections.abc import Sequence

from bonesoup.data.new_prompts import parse
from bonesoup.data.pairs import cut
from bonesoup.data.read import BadRow, read, set_aside
from bonesoup.data.records import Messages, Records, prompt_id, prompt_key
from bonesoup.settings.schema import Data


def records(data: Data, objectives: Sequence[str]) -> Records:
    """Read the prompts of a file; there are no SFT texts and no labels."""
    rows, quarantine = read(data, _without_system)
    rows_read = len(rows) + len(quarantine)
    prompts: dict[str, Messages] = {}
    groups, first_line, cuts = {}, {}, 0
    for line, whole in rows:
        prompt = cut(whole, data.max_prompt_chars)
        key = prompt_id(prompt)
        if key in prompts:
            quarantine.append(set_aside(data, line, f"repeats line {first_line[key]}", prompt[-1]["content"]))
            continue
        first_line[key] = line
        cuts += prompt != whole
        prompts[key] = prompt
        groups[key] = (prompt_key(prompt),)
    return Records(
        prompts=list(prompts.values()),
        groups=groups,
        sft=[],
        rewards={},
        quarantine=sorted(quarantine, key=lambda entry: entry["line"]),
        rows_read=rows_read,
        counts={"prompts_cut": cuts},
    )


def _without_system(row: dict) -> Messages:
    prompt = parse(row)
    if prompt[0]["role"] != "user":
        raise BadRow("'prompt' must begin with a message of the user")
    return prompt
