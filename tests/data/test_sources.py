"""Reading sources: the two formats, and every kind of bad input."""

import gzip
import json
import os
from pathlib import Path

import pytest

from bonesoup.data import hh, pairs, qa, read
from bonesoup.settings.schema import LABELS, Data

ROOT = Path(__file__).parents[2]
REAL = Path(os.environ.get("BONESOUP_DATA", ROOT.parent / "shared" / "data"))


def settings(path, source="hh-rlhf", **changes):
    values = {"labels": [], "validation": 0.15, "test": 0.25, "max_prompt_chars": 200, "max_response_chars": 300}
    return Data(source=source, path=str(path), **values | changes)


def pair(k, chosen="No.", rejected="Yes."):
    start = f"\n\nHuman: May I ask {k}?\n\nAssistant:"
    return {"chosen": f"{start} {chosen}", "rejected": f"{start} {rejected}"}


def write(path, lines):
    path.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines))
    return path


def question(k=0, **changes):
    row = {
        "question": f"Who wrote book {k}?",
        "passages": [["Book", f"Book\n\nBook {k} is a book.", f"Ann wrote book {k}.", "It rained."]],
        "gold": f"Ann wrote book {k}.",
        "prediction 1": f"It rained in {k}. Bob wrote it.",
        "feedback": {
            "errors": [],
            "missing-info": [],
            "corrected-prediction": f"Ann wrote book {k}, a book.",
        },
    }
    return row | changes


# What is wrong with a row, and the reason that must be given.
BAD_ROWS = {
    "not JSON": ("{oops\n", "not JSON: "),
    "cut off": ('{"chosen": "\\n\\nHuman: a\n', "not JSON: "),
    "deep": ("[" * 100_000 + "\n", "not JSON: "),
    "blank line": ("\n", "the line is empty"),
    "a list": ("[1, 2]\n", "not a JSON object but list"),
    "missing key": ({"chosen": pair(1)["chosen"]}, "key 'rejected' is missing"),
    "null": (pair(1) | {"chosen": None}, "key 'chosen' is missing"),
    "a number": (pair(1) | {"chosen": 3}, "'chosen' is int, not a string"),
    "an empty string": (pair(1) | {"rejected": "  "}, "'rejected' is empty"),
    "an empty reply": (pair(1, rejected=" "), "'rejected': turn 2 (assistant) is empty"),
    "no turns": (pair(1) | {"chosen": "hello"}, "'chosen' does not start with 'Human:'"),
    "two assistants": (
        pair(1, chosen="Hm.\n\nAssistant: No."),
        "'chosen': turn 3 is a second assistant turn",
    ),
    "human at the end": (
        pair(1, chosen="No.\n\nHuman: Why?"),
        "'chosen' does not end with an Assistant turn",
    ),
    "equal": (pair(1, rejected="No."), "'chosen' and 'rejected' are the same"),
    "other prompt": ({"chosen": pair(1)["chosen"], "rejected": pair(2)["rejected"]}, "the prompts of"),
    "too long": (pair(1, chosen="No " * 200), "the last reply of 'chosen' has 599 characters, more than"),
    "one megabyte": (pair(1, chosen="x" * 1_000_000), "bytes, more than 1000000"),
    "lone surrogate": ('{"chosen": "\\ud800", "rejected": "b"}\n', "'chosen' is not valid Unicode"),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_bad_row_is_quarantined_with_line_and_reason(tmp_path, name):
    bad, reason = BAD_ROWS[name]
    path = write(tmp_path / "data.jsonl", [pair(1), bad, pair(3)])
    result = hh.records(settings(path), ["harmless"])
    assert [row["id"] for row in result.rewards["harmless"]] == ["1", "3"]
    (entry,) = result.quarantine
    assert (entry["file"], entry["line"]) == (str(path), 2)
    assert reason in entry["reason"]
    assert len(entry["excerpt"]) <= read.EXCERPT
    assert result.rows_read == 3
    json.dumps(entry, ensure_ascii=False).encode()


def test_invalid_utf8_is_quarantined(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_bytes(json.dumps(pair(1)).encode() + b'\n{"chosen": "\xff"}\n')
    (entry,) = hh.records(settings(path), ["harmless"]).quarantine
    assert (entry["line"], entry["reason"]) == (2, "not valid UTF-8")


def test_two_predictions_for_one_question_share_their_answers(tmp_path):
    """They do not repeat a row, and each text is learned from once."""
    rows = [question(1), question(1, **{"prediction 1": "Carol wrote it."})]
    file = write(tmp_path / "qa.jsonl", rows)
    records = qa.records(settings(file, "qa-feedback"), ["relevance"])
    assert records.quarantine == []
    for table in (records.sft, records.rewards["relevance"]):
        texts = [(json.dumps(row["prompt"]), row["response"]) for row in table]
        assert len(set(texts)) == len(texts)
    assert {row["response"] for row in records.rewards["relevance"]} == {
        "It rained in 1. Bob wrote it.",
        "Carol wrote it.",
        "Ann wrote book 1, a book.",
    }
    assert [row["response"] for row in records.sft] == ["Ann wrote book 1, a book.", "Ann wrote book 1."]
    assert records.counts["repeated_sft_texts"] == 2


def test_repeated_rows_are_quarantined_and_repeated_texts_counted(tmp_path):
    path = write(tmp_path / "data.jsonl", [pair(1), pair(2), pair(1), pair(1, rejected="Maybe.")])
    result = hh.records(settings(path), ["harmless"])
    assert [(entry["line"], entry["reason"]) for entry in result.quarantine] == [(3, "repeats line 1")]
    assert len(result.rewards["harmless"]) == 3
    assert len(result.sft) == 2
    assert result.counts["repeated_sft_texts"] == 1
    assert result.rows_read == 4


def test_every_row_is_used_or_quarantined(tmp_path):
    lines = [bad for bad, _ in BAD_ROWS.values()] + [pair(k) for k in range(10, 20)]
    result = hh.records(settings(write(tmp_path / "data.jsonl", lines)), ["harmless"])
    assert result.rows_read == len(lines) == len(result.rewards["harmless"]) + len(result.quarantine)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"gone.jsonl: no such file; set data.path"):
        hh.records(settings(tmp_path / "gone.jsonl"), ["harmless"])


def test_a_truncated_gzip_names_the_line(tmp_path):
    path = tmp_path / "data.jsonl.gz"
    noise = [pair(k, chosen=os.urandom(60).hex()) for k in range(500)]
    whole = gzip.compress("".join(json.dumps(row) + "\n" for row in noise).encode())
    path.write_bytes(whole)
    assert hh.records(settings(path), ["harmless"]).rows_read == 500
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"data.jsonl.gz: the gzip file is truncated or damaged after line \d\d+"):
        hh.records(settings(path), ["harmless"])
    path.write_bytes(whole[:200] + b"\0\0\0\0" + whole[204:])
    with pytest.raises(ValueError, match="truncated or damaged after line"):
        hh.records(settings(path), ["harmless"])


def test_a_file_without_usable_row_is_named(tmp_path):
    path = write(tmp_path / "data.jsonl", ["{}\n", "nonsense\n"])
    with pytest.raises(ValueError, match="data.jsonl: no usable row in 2 lines; line 1: "):
        hh.records(settings(path), ["harmless"])


@pytest.mark.parametrize("content", [b"", gzip.compress(b"", mtime=0)])
def test_an_empty_file_is_called_empty(tmp_path, content):
    path = tmp_path / "data.jsonl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"data.jsonl is empty: it must have rows in the hh-rlhf format"):
        hh.records(settings(path), ["harmless"])


def test_gzip_is_known_by_its_content(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_bytes(gzip.compress(json.dumps(pair(1)).encode()))
    assert hh.records(settings(path), ["harmless"]).rows_read == 1


def test_a_dialogue_becomes_messages(tmp_path):
    text = "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: Two\n\nlines?\n\nAssistant: "
    row = {"chosen": text + "A: Assistant: B", "rejected": text + "No"}
    result = hh.records(settings(write(tmp_path / "d.jsonl", [row])), ["harmless"])
    assert result.prompts == [
        [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello."},
            {"role": "user", "content": "Two\n\nlines?"},
        ]
    ]
    assert result.sft[0]["response"] == "A: Assistant: B"


def test_a_long_prompt_is_cut_at_the_front_and_counted(tmp_path):
    turns = [{"role": role, "content": c * 50} for role, c in zip(["user", "assistant"] * 3, "abcdef", strict=True)]
    prompt = turns[:5]
    assert pairs.cut(prompt, 250) == prompt
    assert pairs.cut(prompt, 249) == prompt[2:]  # never an assistant turn first
    assert pairs.cut(prompt, 149) == prompt[4:]
    (tail,) = pairs.cut([{"role": "user", "content": "one two three four"}], 12)
    assert tail == {"role": "user", "content": "three four"}
    path = write(tmp_path / "d.jsonl", [pair("the same thing again " * 20)])
    assert hh.records(settings(path), ["harmless"]).counts["prompts_cut"] == 1


def test_stages_of_one_conversation_share_a_key(tmp_path):
    later = {k: v + "\n\nHuman: And then?\n\nAssistant: No " + k for k, v in pair(1, rejected="No.").items()}
    result = hh.records(settings(write(tmp_path / "d.jsonl", [pair(1), later])), ["harmless"])
    first, second = result.groups.values()
    assert set(first) & set(second)


def test_prompts_that_differ_in_case_only_share_a_key(tmp_path):
    """Even if the beginnings that were cut differ."""
    rows = [
        {
            side: f"\n\nHuman: {start}\n\nAssistant: Hm.\n\nHuman: {end}\n\nAssistant: {side}"
            for side in ("chosen", "rejected")
        }
        for start, end in (("a" * 200, "Why?"), ("b" * 200, "why?"))
    ]
    result = hh.records(settings(write(tmp_path / "d.jsonl", rows)), ["harmless"])
    first, second = result.groups.values()
    assert set(first) & set(second) == {"why?"}


def test_qa_labels_by_hand():
    text = "It rained. Bob wrote it."  # 20 letters; "It rained." has 9
    errors = [
        {"error type": "Irrelevant", "start": 0, "end": 10},
        {"error type": "Redundant", "start": 5, "end": 10},  # overlaps: counted once
        {"error type": "Unverifiable", "start": 11, "end": 14},
    ]
    missing = [{"error type": "Missing-Answer"}, {"error type": "Missing-Minor-Auxiliary"}]
    feedback = {"errors": errors, "missing-info": missing, "corrected-prediction": "Ann."}
    row = qa.parse(question() | {"prediction 1": text, "feedback": feedback}, 300)
    assert row.labels == {
        "relevance": pytest.approx(1 - 9 / 20),
        "factuality": pytest.approx(1 / 2),
        "completeness": pytest.approx(1 / 2.25),
    }
    assert tuple(row.labels) == LABELS["qa-feedback"]


def test_qa_rows(tmp_path):
    blank = question(2, feedback=question()["feedback"] | {"corrected-prediction": " "})
    same = question(3, gold="It rained in 3. Bob wrote it.")
    same["feedback"]["corrected-prediction"] = same["prediction 1"]
    path = write(tmp_path / "d.jsonl", [question(1), blank, same])
    result = qa.records(settings(path, "qa-feedback"), ["factuality", "completeness"])
    assert [row["id"] for row in result.rewards["factuality"]] == [
        "1-prediction", "1-corrected", "2-prediction", "3-prediction",
    ]  # fmt: skip
    # Without an answer in the passages, "nothing is missing" is no praise.
    assert [row["id"] for row in result.rewards["completeness"]] == [
        "1-prediction",
        "1-corrected",
        "3-prediction",
    ]
    assert [row["id"] for row in result.sft] == ["1-corrected", "1-gold", "2-gold", "3-corrected"]
    assert result.counts["no_correction"] == result.counts["nothing_to_correct"] == 1


def span(start, end, kind="Irrelevant"):
    return {
        "errors": [{"error type": kind, "start": start, "end": end}],
        "missing-info": [],
        "corrected-prediction": "x",
    }


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"question": ""}, "'question' is empty"),
        ({"prediction 1": None}, "key 'prediction 1' is missing"),
        ({"gold": "g" * 301}, "'gold' has 301 characters"),
        ({"feedback": "none"}, "'feedback' is str, not dict"),
        ({"feedback": {"errors": []}}, "key 'feedback.corrected-prediction' is missing"),
        ({"feedback": span(5, 4000)}, "error span 5-4000 is not inside 'prediction 1'"),
        ({"feedback": span("a", 4)}, "error span 'a'-4 is not inside"),
        ({"feedback": span(0, 4, "Odd")}, "unknown error type 'Odd' in feedback.errors"),
        ({"feedback": span(0, 4, ["Odd"])}, "unknown error type ['Odd'] in feedback.errors"),
        ({"passages": []}, "'passages' must hold lists"),
        ({"passages": [["title"]]}, "'passages' must hold lists"),
    ],
)
def test_a_bad_qa_row_is_quarantined(tmp_path, change, reason):
    path = write(tmp_path / "d.jsonl", [question(1), question(2, **change)])
    (entry,) = qa.records(settings(path, "qa-feedback"), ["relevance"]).quarantine
    assert entry["line"] == 2
    assert reason in entry["reason"]


def test_qa_prompt_fits_and_holds_what_the_question_asks_for():
    row = question(7)
    prompt, shortened = qa.make_prompt(row["question"], row["passages"], 200)
    assert not shortened
    assert prompt[0]["content"] == "Book: Book 7 is a book. Ann wrote book 7. It rained.\nQuestion: Who wrote book 7?"
    for limit in range(10, 90, 7):
        prompt, shortened = qa.make_prompt(row["question"], row["passages"], limit)
        assert len(prompt[0]["content"]) <= limit
        assert prompt[0]["content"].endswith("book 7?"[-limit:])
    prompt, shortened = qa.make_prompt(row["question"], row["passages"], 60)
    assert shortened
    assert prompt[0]["content"] == "Book: Ann wrote book 7.\nQuestion: Who wrote book 7?"


def test_sentences():
    text = 'He left in 1999. "Why?" Nobody knew, e.g. her. The end'
    assert [text[a:b] for a, b in qa.sentences(text)] == [
        "He left in 1999.", '"Why?"', "Nobody knew, e.g. her.", "The end",
    ]  # fmt: skip


def test_a_hub_dataset_gives_the_same_rows(tmp_path, monkeypatch):
    """A folder stands in for the id: the same loader, without the network."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "corpus"
    folder.mkdir()
    lines = [pair(k) for k in range(5)] + [pair(6, rejected=" ")]
    file = write(folder / "train.jsonl", lines)
    hub = settings("profile.yaml", hub=str(folder), revision="0" * 40)
    got, expected = hh.records(hub, ["harmless"]), hh.records(settings(file), ["harmless"])
    assert got.rewards == expected.rewards
    assert got.quarantine == [entry | {"file": f"{folder}@{'0' * 40}:train"} for entry in expected.quarantine]
    with pytest.raises(ValueError, match="split test, cannot be loaded"):
        hh.records(hub.model_copy(update={"hub_split": "test"}), ["harmless"])
    with pytest.raises(ValueError, match="data.hub: .*missing at revision"):
        hh.records(hub.model_copy(update={"hub": str(tmp_path / "missing")}), ["harmless"])


def real(name):
    path = REAL / name
    if not path.is_file():
        pytest.skip(f"real data are absent: {path} (set BONESOUP_DATA to their folder)")
    return path


def test_real_hh_rlhf():
    path = real("hh-rlhf/harmless-base.jsonl.gz")
    result = hh.records(settings(path, max_prompt_chars=600, max_response_chars=2500), ["harmless"])
    assert result.rows_read == 1800
    assert len(result.quarantine) / 1800 < 0.01
    assert len(result.rewards["harmless"]) + len(result.quarantine) == 1800


def test_real_qa_feedback():
    path = real("qa-feedback/dev_feedback.jsonl.gz")
    bounds = settings(path, "qa-feedback", max_prompt_chars=450, max_response_chars=1700)
    result = qa.records(bounds, ["relevance", "factuality", "completeness"])
    assert (result.rows_read, result.quarantine) == (400, [])
    # The README of the data counts the questions with each kind of error.
    errors = {
        name: sum(row["label"] < 1 for row in rows if row["id"].endswith("prediction"))
        for name, rows in result.rewards.items()
    }
    assert errors == {"relevance": 333, "factuality": 159, "completeness": 311}
