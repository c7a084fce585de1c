"""The comparisons of summarize_from_feedback, as rows of its released format made by hand."""

import json

import pytest

from bonesoup.data import summaries
from bonesoup.data.prepare import prepare
from bonesoup.files import read_jsonl
from bonesoup.settings.schema import Data


def comparison(k: int = 0, choice: int = 0, texts=("A dog bit me.", "I like it."), **info) -> dict:
    """Make a row with every key that the released files have."""
    post = f"Story {k}: my neighbour's dog bit me on Monday and I do not know what to do."
    return {
        "info": {"id": f"t3_{k}", "post": post, "title": "Bitten", "subreddit": "advice", "site": None, "article": None}
        | info,
        "summaries": [{"text": f" {text}", "policy": "sup1", "note": None} for text in texts],
        "choice": choice,
        "worker": "w1",
        "batch": "batch3",
        "split": "train",
        "extra": {"confidence": None},
    }


def settings(path, **changes) -> Data:
    values = {
        "source": "summarize-from-feedback",
        "path": str(path),
        "labels": ["preference"],
        "validation": 0.2,
        "test": 0.2,
        "max_prompt_chars": 200,
        "max_response_chars": 100,
    }
    return Data(**values | changes)


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_chosen_summary_is_the_one_that_choice_names(tmp_path):
    rows = [comparison(1, choice=0), comparison(2, choice=1)]
    records = summaries.records(settings(written(tmp_path / "rows.jsonl", rows)), ["preference"])
    assert [(pair["chosen"], pair["rejected"]) for pair in records.rewards["preference"]] == [
        ("A dog bit me.", "I like it."),
        ("I like it.", "A dog bit me."),
    ]
    assert [row["response"] for row in records.sft] == ["A dog bit me.", "I like it."]


def test_the_prompt_is_the_post_and_nothing_else(tmp_path):
    row = comparison(1)
    records = summaries.records(settings(written(tmp_path / "rows.jsonl", [row])), ["preference"])
    assert records.prompts == [[{"role": "user", "content": row["info"]["post"]}]]


def test_people_who_agree_count_once_and_people_who_differ_twice(tmp_path):
    rows = [comparison(1), comparison(1), comparison(1, choice=1)]
    records = summaries.records(settings(written(tmp_path / "rows.jsonl", rows)), ["preference"])
    assert [pair["id"] for pair in records.rewards["preference"]] == ["1", "3"]
    assert records.counts["repeated_judgements"] == 1
    assert records.quarantine == []
    assert len(records.prompts) == 1


BAD = {
    "news": (comparison() | {"info": {"post": None, "article": "News."}}, "not a Reddit post"),
    "no info": ({k: v for k, v in comparison().items() if k != "info"}, "key 'info' is missing"),
    "info": (comparison() | {"info": "text"}, "'info' is str"),
    "one summary": (comparison(texts=("A",)), "'summaries' must be two objects"),
    "no text": (comparison() | {"summaries": [{"note": "x"}, {"text": "b"}]}, "'summaries[0].text' is missing"),
    "choice": (comparison(choice=2), "'choice' is 2, not 0 or 1"),
    "a choice that is no place in a list": (comparison() | {"choice": 1.0}, "'choice' is 1.0, not 0 or 1"),
    "no choice": (comparison() | {"choice": None}, "key 'choice' is missing"),
    "equal": (comparison(texts=("Same.", "Same.")), "the two summaries are the same"),
    "long": (comparison(texts=("x" * 101, "b")), "summary 0 has 101 characters"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_row_is_set_aside_with_its_reason(tmp_path, name):
    row, reason = BAD[name]
    records = summaries.records(settings(written(tmp_path / "rows.jsonl", [comparison(1), row])), ["preference"])
    (entry,) = records.quarantine
    assert entry["line"] == 2
    assert reason in entry["reason"]
    assert records.rows_read == 2


def test_a_dataset_in_the_layout_of_the_hub_is_read_from_its_folder(tmp_path, monkeypatch):
    """A folder `comparisons` of Parquet files beside other folders, as the Hub's conversion has it."""
    from datasets import Dataset

    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    rows = [comparison(k, choice=k % 2) for k in range(40)]
    for folder, part in (("comparisons", rows), ("axis", [{"other": 1}])):
        (tmp_path / "hub" / folder / "train").mkdir(parents=True)
        Dataset.from_list(part).to_parquet(tmp_path / "hub" / folder / "train" / "0000.parquet")
    data = settings("profiles/summary.yaml", hub=str(tmp_path / "hub"), hub_folder="comparisons", hub_split="train")
    summary = prepare(data, 0, tmp_path / "out", tmp_path / "docs")
    assert summary["rows_read"] == 40
    assert summary["rows_quarantined"] == 0
    assert {row["split"] for row in read_jsonl(tmp_path / "out/rewards/preference.jsonl")} == {
        "train", "validation", "test"
    }  # fmt: skip
