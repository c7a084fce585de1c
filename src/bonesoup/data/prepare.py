"""Turn a source into prompts, SFT texts and a table per labelled objective, split by prompt and validated."""

from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np

from bonesoup.data import embedded, hh, prompts, qa, summaries
from bonesoup.data.gold import OBJECTIVES as GOLD_OBJECTIVES
from bonesoup.data.gold import gold
from bonesoup.data.read import source_name
from bonesoup.data.records import Records, joined, prompt_id
from bonesoup.data.split import assign
from bonesoup.data.validate import validate
from bonesoup.data.words import load
from bonesoup.files import appearing, write_json, write_jsonl
from bonesoup.settings.schema import Data


def prepare(data: Data, seed: int, out: Path, docs: Path) -> dict:
    """Read the source, and write its tables into the folder `out` and data docs into `docs`, each whole or not at all.

    Returns:
        The summary, which is also written to out/summary.json.

    Raises:
        ValueError: the source cannot be read, has no usable row, or none for a table.
    """
    records = read_source(data, seed)
    split_of = assign(records.groups, seed, data.validation, data.test)
    tables = split_tables(records, split_of)
    for name, rows in tables.items():
        # A source with prompts alone, for a base that is already tuned, has no SFT texts.
        if not rows and not (name == "sft" and data.source == "prompts"):
            raise ValueError(f"{source_name(data)} gives no row for {name}")
    with appearing(Path(out)) as folder, appearing(Path(docs)) as site:
        folder.mkdir()
        site.mkdir()
        for name, rows in tables.items():
            write_jsonl(folder / f"{name}.jsonl", rows)
        write_jsonl(folder / "quarantine.jsonl", records.quarantine)
        checks = validate(tables, data.max_prompt_chars, data.max_response_chars, site)
        summary = summarise(data, records, tables, checks)
        write_json(folder / "summary.json", summary)
    return summary


def read_source(data: Data, seed: int) -> Records:
    """Read the records of a source."""
    if data.files:
        return joined({part.labels[0]: read_source(part, seed) for part in data.parts()})
    if data.source == "embedded":
        return embedded.generate(data.path, data.labels, data.sizes, seed)
    sources = {"prompts": prompts, "hh-rlhf": hh, "qa-feedback": qa, "summarize-from-feedback": summaries}
    return sources[data.source].records(data, data.labels)


def split_tables(records: Records, split_of: dict[str, str]) -> dict[str, list[dict]]:
    """Map each table name to its rows as written, with the split after the id."""

    def with_split(row: dict) -> dict:
        return {"id": row["id"], "split": split_of[prompt_id(row["prompt"])], **row}

    return {
        "prompts": [with_split({"id": prompt_id(prompt), "prompt": prompt}) for prompt in records.prompts],
        "sft": [with_split(row) for row in records.sft],
        **{f"rewards/{name}": [with_split(row) for row in rows] for name, rows in records.rewards.items()},
    }


def summarise(data: Data, records: Records, tables: dict[str, list[dict]], checks: dict) -> dict:
    set_aside = len(records.quarantine)
    summary = {
        "source": source_name(data),
        "rows_read": records.rows_read,
        "rows_quarantined": set_aside,
        "share_quarantined": set_aside / records.rows_read,
        "first_quarantined": records.quarantine[:3],
        "counts": {
            **{name: dict(Counter(row["split"] for row in rows)) for name, rows in tables.items()},
            **records.counts,
        },
        "expectations": checks,
    }
    if data.source == "embedded":
        summary["gold_correlation"] = gold_correlation(data.path, tables["sft"])
    return summary


def gold_correlation(path: str, rows: list[dict]) -> dict[str, float]:
    """Return the correlation of the true scores over the SFT texts, per pair of objectives: how far they conflict."""
    words = load(path)
    scores = [gold(row["prompt"][-1]["content"], row["response"], words) for row in rows]
    matrix = np.corrcoef([[score[name] for score in scores] for name in GOLD_OBJECTIVES])
    return {
        f"{GOLD_OBJECTIVES[i]}-{GOLD_OBJECTIVES[j]}": round(float(matrix[i, j]), 4)
        for i, j in combinations(range(len(GOLD_OBJECTIVES)), 2)
    }
