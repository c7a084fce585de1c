"""prepare: whole folders, no leakage, counts that add up."""

import json
import os
from collections import defaultdict
from pathlib import Path

import pytest

from bonesoup.data.prepare import prepare
from bonesoup.data.words import TABLES
from bonesoup.files import file_digest, read_json, read_jsonl
from bonesoup.settings.schema import Data

REAL = Path(os.environ.get("BONESOUP_DATA", Path(__file__).parents[3] / "shared" / "data"))


def settings(**changes):
    sizes = {"sft": 300, "pairs": 300, "prompts": 256}
    values = {"source": "embedded", "path": str(TABLES), "labels": ["helpful", "harmless"], "sizes": sizes}
    return Data(
        **values | {"validation": 0.2, "test": 0.2, "max_prompt_chars": 200, "max_response_chars": 400} | changes
    )


def run(data, folder, seed=0):
    return prepare(data, seed, folder / "data", folder / "docs")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("embedded")
    return folder, run(settings(), folder)


def test_tables_and_summary(made):
    folder, summary = made
    assert read_json(folder / "data/summary.json") == summary
    assert summary["expectations"]["failed"] == []
    assert summary["rows_quarantined"] == summary["share_quarantined"] == 0
    assert summary["gold_correlation"]["helpful-harmless"] < -0.7
    for name, size in (("prompts", 256), ("sft", 300), ("rewards/helpful", 300), ("rewards/harmless", 300)):
        assert sum(summary["counts"][name].values()) == size == len(read_jsonl(folder / f"data/{name}.jsonl"))
    assert list(read_jsonl(folder / "data/sft.jsonl")[0]) == ["id", "split", "prompt", "response"]
    assert list(read_jsonl(folder / "data/rewards/helpful.jsonl")[0]) == [
        "id", "split", "prompt", "chosen", "rejected",
    ]  # fmt: skip
    assert (folder / "docs/index.html").is_file()


def assert_no_leak(folder):
    splits_of = defaultdict(set)
    for path in folder.glob("data/**/*.jsonl"):
        if path.name != "quarantine.jsonl":
            for row in read_jsonl(path):
                splits_of[json.dumps(row["prompt"]).casefold()].add(row["split"])
    assert len(splits_of) > 1
    assert all(len(splits) == 1 for splits in splits_of.values())


def test_no_prompt_is_in_two_splits(made):
    assert_no_leak(made[0])


def test_the_same_settings_make_the_same_bytes(made, tmp_path):
    run(settings(), tmp_path)
    assert file_digest(tmp_path / "data") == file_digest(made[0] / "data")


def test_outputs_are_replaced_whole_or_left_alone(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "old").write_text("old")
    with pytest.raises(ValueError, match="no such file"):
        run(settings(path="nowhere.yaml"), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    assert (data / "old").exists()
    run(settings(), tmp_path)
    assert not (data / "old").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "docs"]


def write_pairs(path, count, bad=()):
    lines = []
    for k in range(count):
        start = f"\n\nHuman: Question {k}?\n\nAssistant:"
        lines.append({"chosen": f"{start} No{'.' * (k % 2)}", "rejected": f"{start} Yes{'.' * (k % 3)}"})
    path.write_text("\n".join([json.dumps(line) for line in lines] + list(bad)))
    return path


def hh(path):
    return settings(source="hh-rlhf", path=str(path), labels=["harmless"], sizes=None)


def test_quarantine_is_written_and_its_first_rows_shown(tmp_path):
    file = write_pairs(tmp_path / "p.jsonl", 60, ["{", "[]", "{}", "null"])
    summary = run(hh(file), tmp_path)
    assert (summary["rows_read"], summary["rows_quarantined"], summary["share_quarantined"]) == (
        64,
        4,
        4 / 64,
    )
    entries = read_jsonl(tmp_path / "data/quarantine.jsonl")
    assert [entry["line"] for entry in entries] == [61, 62, 63, 64]
    assert set(entries[0]) == {"file", "line", "reason", "excerpt"}
    assert summary["first_quarantined"] == entries[:3]
    assert [path.name for path in (tmp_path / "data/rewards").iterdir()] == ["harmless.jsonl"]
    assert_no_leak(tmp_path)


def files(folder, hub=None, **named):
    parts = {name: {"source": "hh-rlhf", "file": file} for name, file in named.items()}
    return settings(source="files", path=str(folder), files=parts, labels=list(named), sizes=None, hub=hub)


def test_a_file_for_each_objective(tmp_path):
    """Both files ask questions 20 to 39: each counts once among the prompts, and lies in one split everywhere."""
    raw = tmp_path / "raw"
    raw.mkdir()
    write_pairs(raw / "a.jsonl", 40, ["{"])
    write_pairs(raw / "b.jsonl", 60)
    (raw / "b.jsonl").write_text("\n".join((raw / "b.jsonl").read_text().split("\n")[20:]))
    summary = run(files(raw, helpful="a.jsonl", harmless="b.jsonl"), tmp_path)
    tables = {name: read_jsonl(tmp_path / f"data/{name}.jsonl") for name in ("prompts", "sft", "rewards/helpful")}
    assert (summary["rows_read"], summary["rows_quarantined"]) == (81, 1)
    assert [len(rows) for rows in tables.values()] == [60, 60, 40]
    assert len({row["id"] for row in tables["sft"]}) == 60
    assert len(read_jsonl(tmp_path / "data/rewards/harmless.jsonl")) == 40
    assert summary["counts"]["helpful: prompts_cut"] == 0
    assert summary["expectations"]["failed"] == []
    assert read_jsonl(tmp_path / "data/quarantine.jsonl")[0]["file"] == f"{raw}/a.jsonl"
    assert_no_leak(tmp_path)


def test_two_formats_in_one_run(tmp_path):
    """The tables of an objective do not depend on the files of the others."""
    if not (REAL / "qa-feedback").is_dir():
        pytest.skip(f"real data are absent: {REAL} (set BONESOUP_DATA to their folder)")
    parts = {
        "harmless": {"source": "hh-rlhf", "file": "hh-rlhf/harmless-base.jsonl.gz"},
        "factuality": {"source": "qa-feedback", "file": "qa-feedback/dev_feedback.jsonl.gz"},
    }
    both = settings(
        source="files", path=str(REAL), files=parts, labels=list(parts), sizes=None, max_response_chars=2500
    )
    summary = run(both, tmp_path / "both")
    assert summary["expectations"]["failed"] == []
    alone = both.parts()[1]
    run(alone, tmp_path / "alone")
    tables = [read_jsonl(tmp_path / place / "data/rewards/factuality.jsonl") for place in ("both", "alone")]
    assert tables[0] == tables[1]
    assert_no_leak(tmp_path / "both")


def test_a_missing_file_is_named(tmp_path):
    write_pairs(tmp_path / "a.jsonl", 40)
    with pytest.raises(ValueError, match=f"{tmp_path}/b.jsonl: no such file"):
        run(files(tmp_path, helpful="a.jsonl", harmless="b.jsonl"), tmp_path / "out")


def test_two_files_with_the_same_pairs_are_refused(tmp_path):
    write_pairs(tmp_path / "a.jsonl", 40)
    write_pairs(tmp_path / "b.jsonl", 40)
    with pytest.raises(ValueError, match="helpful and harmless have the same 40 rows"):
        run(files(tmp_path, helpful="a.jsonl", harmless="b.jsonl"), tmp_path / "out")


@pytest.mark.parametrize("file", ["../a.jsonl", "/data/a.jsonl", "x/../../a.jsonl"])
def test_a_file_outside_the_folder_that_dvc_watches_is_refused(file):
    with pytest.raises(ValueError, match="data.files.helpful.file: .* leaves the folder data.path"):
        files("data", helpful=file)


def test_files_of_a_hub_dataset_are_its_folders():
    parts = files("profiles/hh.yaml", hub="Anthropic/hh-rlhf", helpful="helpful-base", harmless="harmless-base").parts()
    assert [(part.hub, part.hub_folder, part.labels) for part in parts] == [
        ("Anthropic/hh-rlhf", "helpful-base", ["helpful"]),
        ("Anthropic/hh-rlhf", "harmless-base", ["harmless"]),
    ]


@pytest.mark.parametrize(
    ("source", "name", "chars", "labels", "share"),
    [
        ("hh-rlhf", "hh-rlhf/harmless-base.jsonl.gz", 2500, ["harmless"], 0.01),
        ("qa-feedback", "qa-feedback/dev_feedback.jsonl.gz", 1200, ["relevance", "factuality", "completeness"], 0.01),
    ],
)
def test_real_data(tmp_path, source, name, chars, labels, share):
    if not (REAL / name).is_file():
        pytest.skip(f"real data are absent: {REAL / name} (set BONESOUP_DATA to their folder)")
    changes = {"source": source, "path": str(REAL / name), "labels": labels, "sizes": None}
    data = settings(**changes, max_prompt_chars=450, max_response_chars=chars)
    summary = run(data, tmp_path)
    assert summary["expectations"]["failed"] == []
    assert 0 < summary["share_quarantined"] < share
    assert_no_leak(tmp_path)
