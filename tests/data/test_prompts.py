"""Prompts alone as a source, and the prompts that ship with the project."""

import json
from pathlib import Path

import pytest

from bonesoup.data import prompts
from bonesoup.data.prepare import prepare
from bonesoup.files import read_jsonl
from bonesoup.settings.schema import Data

SHIPPED = Path(__file__).parents[2] / "src/bonesoup/data/prompts.jsonl"


def settings(path, **changes) -> Data:
    values = {"labels": [], "validation": 0.2, "test": 0.2, "max_prompt_chars": 60, "max_response_chars": 100}
    return Data(source="prompts", path=str(path), **values | changes)


def write(path: Path, rows: list) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_texts_and_dialogues_become_prompts_and_nothing_else_is_made(tmp_path):
    dialogue = [
        {"role": "user", "content": "Hello."},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "Why?"},
    ]
    file = write(tmp_path / "p.jsonl", [{"prompt": f"What is {k}?"} for k in range(40)] + [{"prompt": dialogue}])
    summary = prepare(settings(file), 0, tmp_path / "out", tmp_path / "docs")
    rows = read_jsonl(tmp_path / "out/prompts.jsonl")
    assert sum(summary["counts"]["prompts"].values()) == len(rows) == 41
    assert rows[-1]["prompt"] == dialogue
    assert read_jsonl(tmp_path / "out/sft.jsonl") == []
    assert not (tmp_path / "out/rewards").exists()
    assert summary["expectations"]["failed"] == []


def test_bad_rows_and_repetitions_are_set_aside_with_their_line(tmp_path):
    rows = [
        {"prompt": "Why?"},
        {"prompt": " why? "},
        {"prompt": "Why?"},
        {"text": "no prompt"},
        "not JSON",
        {"prompt": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Why?"}]},
        {"prompt": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]},
    ]
    records = prompts.records(settings(write(tmp_path / "p.jsonl", rows)), [])
    assert [(entry["line"], entry["reason"].split(":")[0]) for entry in records.quarantine] == [
        (3, "repeats line 1"),
        (4, "key 'prompt' is missing"),
        (5, "not JSON"),
        (6, "'prompt' must begin with a message of the user"),
        (7, "'prompt' must end with a message of the user"),
    ]
    assert records.rows_read == len(rows)
    # The same but for case and space: two prompts, one split.
    assert len(records.prompts) == 2
    assert len(set(records.groups.values())) == 1


def test_a_long_prompt_is_cut_at_the_front(tmp_path):
    file = write(tmp_path / "p.jsonl", [{"prompt": "before " * 20 + "what is it?"}])
    records = prompts.records(settings(file), [])
    assert records.counts == {"prompts_cut": 1}
    assert records.prompts[0][0]["content"].endswith("what is it?")
    assert len(records.prompts[0][0]["content"]) <= 60


@pytest.fixture(scope="module")
def shipped() -> list[dict]:
    return read_jsonl(SHIPPED)


def test_the_prompts_that_ship_are_distinct_short_and_a_third_of_them_risky(shipped):
    texts = [" ".join(row["prompt"].casefold().split()) for row in shipped]
    assert len(texts) > 350
    assert len(set(texts)) == len(texts)
    assert max(map(len, texts)) < 100
    assert sum(row["risky"] for row in shipped) / len(shipped) == pytest.approx(1 / 3, abs=0.03)


def test_every_split_gets_both_kinds_of_the_prompts_that_ship(shipped, tmp_path):
    prepare(settings(SHIPPED, max_prompt_chars=100), 0, tmp_path / "out", tmp_path / "docs")
    risky = {row["prompt"]: row["risky"] for row in shipped}
    rows = read_jsonl(tmp_path / "out/prompts.jsonl")
    for split in ("train", "validation", "test"):
        kinds = [risky[row["prompt"][0]["content"]] for row in rows if row["split"] == split]
        assert 0.2 < sum(kinds) / len(kinds) < 0.5
