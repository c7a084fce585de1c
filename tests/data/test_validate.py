"""Great Expectations reports faults injected into good tables, and nothing else."""

import copy

import pytest

from bonesoup.data.validate import validate


def message(text):
    return [{"role": "user", "content": text}]


def tables():
    """Write six prompts, two in each split, in all four layouts."""
    splits = ["train", "train", "validation", "validation", "test", "test"]
    base = [{"id": str(k), "split": split, "prompt": message(f"prompt {k}")} for k, split in enumerate(splits)]
    return {
        "prompts": base,
        "sft": [row | {"response": f"answer {row['id']}"} for row in base],
        "rewards/kind": [
            row | {"chosen": "good" * (1 + k % 2), "rejected": "bad" * (2 - k % 2)} for k, row in enumerate(base)
        ],
        "rewards/true": [row | {"response": f"answer {row['id']}", "label": k / 5} for k, row in enumerate(base)],
    }


def failures(changed, tmp_path, **limits):
    result = validate(
        changed, limits.get("max_prompt_chars", 50), limits.get("max_response_chars", 50), tmp_path / "docs"
    )
    return {(item["table"], item["expectation"]) for item in result["failed"]}


def test_good_tables_pass_and_get_a_page_each(tmp_path):
    result = validate(tables(), 50, 50, tmp_path / "docs")
    assert result["failed"] == []
    assert result["checked"] > 40
    pages = {page.name for page in (tmp_path / "docs").rglob("*.html")}
    assert {"index.html", "prompts.html", "sft.html", "rewards-kind.html", "rewards-true.html"} <= pages


def test_a_prompt_in_two_splits_is_found_in_every_table_it_is_in(tmp_path):
    """Injected: one SFT row in test whose prompt, but for case and spaces, is a training prompt."""
    changed = copy.deepcopy(tables())
    changed["sft"][4]["prompt"] = message("Prompt  0")
    check = "expect_column_values_to_be_in_set(prompt_splits)"
    assert failures(changed, tmp_path) == {(name, check) for name in changed}


def test_a_leak_is_described(tmp_path):
    changed = copy.deepcopy(tables())
    changed["sft"][4]["prompt"] = message("Prompt  0")
    result = validate({"sft": changed["sft"]}, 50, 50, tmp_path / "docs")
    (failed,) = result["failed"]
    assert failed["table"] == "sft"
    assert failed["detail"].startswith("2 of 6 values")


INJECTED = {
    "all labels alike": ("rewards/true", {"label": 1.0}, {"expect_column_mean_to_be_between(positive)",
                                                          "expect_column_stdev_to_be_between(label)"}),
    "labels off the scale": ("rewards/true", {"label": 2.0}, {"expect_column_values_to_be_between(label)",
                                                              "expect_column_mean_to_be_between(positive)",
                                                              "expect_column_stdev_to_be_between(label)"}),
    "always the longer one chosen": ("rewards/kind", {"chosen": "good good good"},
                                     {"expect_column_mean_to_be_between(chosen_longer)"}),
    "equal sides": ("rewards/kind", {"chosen": "same", "rejected": "same"},
                    {"expect_column_values_to_be_in_set(replies_differ)"}),
    "blank responses": ("sft", {"response": "  "}, {"expect_column_values_to_match_regex(response)"}),
    "long responses": ("sft", {"response": "x" * 51}, {"expect_column_values_to_be_between(response_chars)"}),
    "one split": ("prompts", {"split": "train"}, {"expect_column_distinct_values_to_equal_set(split)",
                                                  "expect_column_values_to_be_in_set(prompt_splits)"}),
    "one id": ("prompts", {"id": "0"}, {"expect_column_values_to_be_unique(id)"}),
    "a foreign key": ("sft", {"score": 1}, {"expect_table_columns_to_match_set"}),
    "the assistant last": ("prompts", {"prompt": [*message("a"), {"role": "assistant", "content": "b"}]},
                           {"expect_column_values_to_match_regex(prompt_roles)",
                            "expect_column_values_to_be_in_set(prompt_splits)",
                            "expect_column_values_to_be_unique(row)"}),
    "an empty turn": ("prompts", {"prompt": [*message("a"), {"role": "assistant", "content": ""},
                                             *message("b")]},
                      {"expect_column_values_to_be_in_set(prompt_empty_turns)",
                       "expect_column_values_to_be_in_set(prompt_splits)",
                       "expect_column_values_to_be_unique(row)"}),
}  # fmt: skip


@pytest.mark.parametrize("name", INJECTED)
def test_an_injected_fault_is_found(tmp_path, name):
    table, change, expected = INJECTED[name]
    changed = tables()
    changed[table] = [row | change for row in changed[table]]
    assert {check for where, check in failures(changed, tmp_path) if where == table} == expected


def test_repeated_rows_are_found(tmp_path):
    changed = tables()
    changed["sft"] = [*changed["sft"], changed["sft"][0] | {"id": "again"}]
    assert failures(changed, tmp_path) == {("sft", "expect_column_values_to_be_unique(row)")}


def test_the_overview_lists_every_expectation_without_a_network(tmp_path):
    from bonesoup.data.overview import write_overview

    page = tmp_path / "validations/prompts/run/tables-prompts.html"
    page.parent.mkdir(parents=True)
    page.write_text("<html></html>")
    checks = [
        {"table": "prompts", "expectation": "unique(id)", "detail": "", "success": True},
        {"table": "prompts", "expectation": "in_set(split)", "detail": "3 of <b>9</b>", "success": False},
    ]
    write_overview(tmp_path, checks)
    text = (tmp_path / "overview.html").read_text()
    assert "2 expectations on 1 tables: 1 not met" in text
    assert "3 of &lt;b&gt;9&lt;/b&gt;" in text
    assert "validations/prompts/run/tables-prompts.html" in text
    assert "http" not in text


def test_markup_in_the_data_is_text_on_the_pages(tmp_path):
    markup = "<script>alert(1)</script> & $100 ${name} {{ 7*7 }}"
    changed = copy.deepcopy(tables())
    for row in changed["sft"]:
        row |= {"prompt": message(markup), "response": markup}
    result = validate({"sft": changed["sft"]}, 100, 100, tmp_path / "docs")
    assert any("<script>alert(1)" in item["detail"] for item in result["failed"])
    pages = "".join(page.read_text() for page in (tmp_path / "docs").rglob("*.html"))
    assert "<script>alert(1)" not in pages
    assert "&lt;script&gt;alert(1)" in pages
    assert "&#36;{name} {{ 7*7 }}" in pages
