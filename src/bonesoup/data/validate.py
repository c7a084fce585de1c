"""Check the tables of `prepare` with Great Expectations suites; gate@data judges the result.

Suites are defined in code and the context is ephemeral; only a folder of HTML data docs is kept.
"""

import html
import json
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

import pandas as pd

from bonesoup.data.overview import write_overview
from bonesoup.data.records import prompt_key
from bonesoup.data.split import SPLITS

# A learned reward needs both kinds of label, and must not be a measure of length alone.
BALANCE = (0.05, 0.95)
MIN_SPREAD = 0.02  # standard deviation of regression labels
LAYOUT = {
    "prompts": ["id", "split", "prompt_text"],
    "sft": ["id", "split", "prompt_text", "response"],
    "pairs": ["id", "split", "prompt_text", "chosen", "rejected"],
    "labels": ["id", "split", "prompt_text", "response", "label"],
}
OF_PROMPT = ["prompt_chars", "prompt_roles", "prompt_empty_turns", "prompt_splits", "row"]
COMPUTED = {
    "prompts": OF_PROMPT,
    "sft": [*OF_PROMPT, "response_chars"],
    "pairs": [*OF_PROMPT, "chosen_chars", "rejected_chars", "replies_differ", "chosen_longer"],
    "labels": [*OF_PROMPT, "response_chars", "positive"],
}
REPLIES = {"sft": ["response"], "pairs": ["chosen", "rejected"], "labels": ["response"]}


def validate(tables: dict[str, list[dict]], max_prompt_chars: int, max_response_chars: int, docs: Path) -> dict:
    """Check every table and write the data docs into the new folder `docs`.

    Args:
        tables: "prompts", "sft" and "rewards/<objective>" -> rows, as they will be written.

    Returns:
        {"checked": int, "failed": [{"table", "expectation", "detail"}]}
    """
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    # Imported here, since it takes about 6 s.
    import great_expectations as gx

    context = _context(docs)
    source = context.data_sources.add_pandas("tables")
    splits = prompt_splits(tables)
    checks = []
    for name, rows in tables.items():
        if not rows:
            continue
        frame = to_frame(rows, splits)
        label = name.replace("/", "-")
        batch = source.add_dataframe_asset(label).add_batch_definition_whole_dataframe("all")
        suite = gx.ExpectationSuite(
            label, expectations=expectations(kind_of(rows), max_prompt_chars, max_response_chars)
        )
        definition = gx.ValidationDefinition(name=label, data=batch, suite=context.suites.add(suite))
        result = context.validation_definitions.add(definition).run(batch_parameters={"dataframe": frame})
        checks += [
            {
                "table": name,
                "expectation": title(item.expectation_config),
                "detail": detail(item),
                "success": bool(item.success),
            }
            for item in result.results
        ]
    context.build_data_docs(["docs"])
    write_overview(docs, checks)
    failed = [{k: v for k, v in check.items() if k != "success"} for check in checks if not check["success"]]
    return {"checked": len(checks), "failed": failed}


def _context(docs: Path) -> Any:
    """Set up Great Expectations in memory, with one site of data docs."""
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    store = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(docs.absolute())}
    context.add_data_docs_site(
        "docs",
        {
            "class_name": "SiteBuilder",
            "store_backend": store,
            "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
        },
    )
    return context


def prompt_splits(tables: dict[str, list[dict]]) -> dict[str, set[str]]:
    """Map every prompt (in the form compared for leakage) to the splits it occurs in, over all tables."""
    splits = defaultdict(set)
    for rows in tables.values():
        for row in rows:
            splits[prompt_key(row["prompt"])].add(row["split"])
    return splits


def kind_of(rows: list[dict]) -> str:
    """Name the layout of a table: prompts, sft, pairs or labels."""
    first = rows[0]
    if "chosen" in first:
        return "pairs"
    if "label" in first:
        return "labels"
    return "sft" if "response" in first else "prompts"


def to_frame(rows: list[dict], splits: dict[str, set[str]]) -> pd.DataFrame:
    """Turn rows into a frame, with computed columns for the expectations."""
    frame = pd.DataFrame(rows)
    prompts = frame.pop("prompt")
    frame["prompt_text"] = ["\n".join(turn["content"] for turn in prompt) for prompt in prompts]
    frame["prompt_chars"] = [sum(len(turn["content"]) for turn in prompt) for prompt in prompts]
    frame["prompt_roles"] = [",".join(turn["role"] for turn in prompt) for prompt in prompts]
    frame["prompt_empty_turns"] = [sum(not turn["content"].strip() for turn in prompt) for prompt in prompts]
    frame["prompt_splits"] = [len(splits[prompt_key(prompt)]) for prompt in prompts]
    replies = REPLIES.get(kind_of(rows), [])
    for name in replies:
        frame[f"{name}_chars"] = frame[name].str.len()
    frame["row"] = [
        json.dumps([p, *rest]) for p, *rest in zip(prompts, *(frame[name] for name in replies), strict=True)
    ]
    if "chosen" in frame:
        frame["replies_differ"] = frame["chosen"].str.strip() != frame["rejected"].str.strip()
        longer, shorter = frame["chosen_chars"], frame["rejected_chars"]
        frame["chosen_longer"] = (longer > shorter) * 1.0 + (longer == shorter) * 0.5
    if "label" in frame:
        frame["positive"] = (frame["label"] > frame["label"].mean()) * 1.0
    for name in ["prompt_text", *replies, "row"]:
        frame[name] = frame[name].map(as_text, na_action="ignore")
    return frame


def as_text(value: str) -> str:
    """Escape data for the pages: Great Expectations writes it into HTML unescaped, and substitutes `$name`.

    Expectations are not affected: different texts stay different, and lengths are counted before.
    """
    return html.escape(value).replace("$", "&#36;")


def expectations(kind: str, max_prompt_chars: int, max_response_chars: int) -> list[Any]:
    """Return the suite for tables of this kind."""
    from great_expectations import expectations as e

    suite = [
        e.ExpectTableColumnsToMatchSet(column_set=LAYOUT[kind] + COMPUTED[kind], exact_match=True),
        *(e.ExpectColumnValuesToNotBeNull(column=column) for column in LAYOUT[kind]),
        e.ExpectColumnValuesToBeUnique(column="id"),
        e.ExpectColumnDistinctValuesToEqualSet(column="split", value_set=list(SPLITS)),
        e.ExpectColumnValuesToMatchRegex(column="prompt_roles", regex="^user(?:,assistant,user)*$"),
        e.ExpectColumnValuesToBeInSet(column="prompt_empty_turns", value_set=[0]),
        e.ExpectColumnValuesToBeBetween(column="prompt_chars", min_value=1, max_value=max_prompt_chars),
        e.ExpectColumnValuesToBeInSet(column="prompt_splits", value_set=[1]),
        e.ExpectColumnValuesToBeUnique(column="row"),
    ]
    for reply in REPLIES.get(kind, []):
        suite += [
            e.ExpectColumnValuesToMatchRegex(column=reply, regex=r"\S"),
            e.ExpectColumnValuesToBeBetween(column=f"{reply}_chars", min_value=1, max_value=max_response_chars),
        ]
    low, high = BALANCE
    if kind == "pairs":
        suite += [
            e.ExpectColumnValuesToBeInSet(column="replies_differ", value_set=[True]),
            e.ExpectColumnMeanToBeBetween(column="chosen_longer", min_value=low, max_value=high),
        ]
    if kind == "labels":
        suite += [
            e.ExpectColumnValuesToBeBetween(column="label", min_value=0, max_value=1),
            e.ExpectColumnMeanToBeBetween(column="positive", min_value=low, max_value=high),
            e.ExpectColumnStdevToBeBetween(column="label", min_value=MIN_SPREAD),
        ]
    return suite


def title(config: Any) -> str:
    """Name an expectation and its column."""
    column = config.kwargs.get("column")
    return f"{config.type}({column})" if column else config.type


def detail(item: Any) -> str:
    """Say in one line what failed."""
    if item.exception_info.get("exception_message"):
        return f"could not be evaluated: {item.exception_info['exception_message']}"[:200]
    result = item.result
    if result.get("unexpected_count"):
        some = [html.unescape(str(value))[:60] for value in result.get("partial_unexpected_list", [])[:3]]
        return f"{result['unexpected_count']} of {result['element_count']} values, for example {some}"
    limits = item.expectation_config.kwargs
    wanted = [
        f"{word} {limits[name]}"
        for word, name in (("at least", "min_value"), ("at most", "max_value"))
        if limits.get(name) is not None
    ]
    return f"found {result.get('observed_value')}, wanted {' and '.join(wanted) or limits}"[:200]
