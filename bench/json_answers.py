"""Measure what a JSON schema costs a request: the vocabulary once, each new schema, and the mask of each token.

    python bench/json_answers.py --base FOLDER      a Transformers folder, such as out/base after `make chat`

Prints a Markdown table for docs/serving.md: milliseconds of CPU time on one thread, median and range over the rounds.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import AutoConfig, AutoTokenizer

from bonesoup.generation.json_answers import JsonVocabulary

ROUNDS = 7
ANSWER = '{"name": "a lemon", "colour": "yellow", "grams": 58}'


def schema(number: int) -> dict:
    """Make a schema that no earlier round has compiled; `number` is in its title."""
    text = {"type": "string", "maxLength": 40}
    fields = {"name": text, "colour": text, "grams": {"type": "integer"}}
    return {"title": str(number), "type": "object", "properties": fields, "required": list(fields)}


def milliseconds(work: Callable[[], object]) -> float:
    """Return the CPU time of a call."""
    start = time.process_time()
    work()
    return (time.process_time() - start) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--base", type=Path, required=True, help="a Transformers folder")
    folder = parser.parse_args().base
    torch.set_num_threads(1)
    tokenizer, config = AutoTokenizer.from_pretrained(folder), AutoConfig.from_pretrained(folder)
    ends = {tokenizer.eos_token_id}
    times: dict[str, list[float]] = {"the vocabulary, once": [], "each new schema": [], "each token": []}
    ids = tokenizer(ANSWER, add_special_tokens=False)["input_ids"]
    for k in range(ROUNDS):
        made = []
        times["the vocabulary, once"].append(
            milliseconds(lambda made=made: made.append(JsonVocabulary(tokenizer, config.vocab_size, ends)))
        )
        vocabulary = made[0]
        times["each new schema"].append(milliseconds(lambda k=k, known=vocabulary: known.schema(schema(k))))
        answer = vocabulary.schema(schema(k)).start()

        def write(answer=answer) -> None:
            for token in ids:
                assert answer.allowed()[token]
                answer.take(token)

        times["each token"].append(milliseconds(write) / len(ids))
    print(f"| {config.vocab_size:,} tokens | ms | range |\n|---|---:|---:|")
    for what, values in times.items():
        print(f"| {what} | {statistics.median(values):.2f} | {min(values):.2f} to {max(values):.2f} |")


if __name__ == "__main__":
    main()
