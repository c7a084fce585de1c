"""Reading samples.parquet: rows that line up are accepted, all others are refused by name."""

import numpy as np
import pandas as pd
import pytest

from bonesoup.evaluation import tables
from bonesoup.evaluation.compare import evaluate
from bonesoup.evaluation.point import measured
from bonesoup.evaluation.samples import read_examples, read_fronts, read_training
from bonesoup.evaluation.statistics import Statistics
from bonesoup.files import write_jsonl

OBJECTIVES = ["helpful", "harmless"]


def edit(path, change):
    rows = pd.read_parquet(path)
    changed = change(rows)
    (rows if changed is None else changed).to_parquet(path)


def test_arrays_hold_the_rows_they_name(samples):
    fronts = {front.method: front for front in read_fronts(samples, OBJECTIVES)}
    rows = pd.read_parquet(samples["bone"])
    sample = rows[(rows["point"] == 4) & (rows["prompt_id"] == "test-0007")].iloc[0]
    bone = fronts["bone"]
    row = bone.prompts.index("test-0007")
    assert bone.reward[row, 4].tolist() == [sample["reward_helpful"], sample["reward_harmless"]]
    assert bone.gold[row, 4].tolist() == [sample["gold_helpful"], sample["gold_harmless"]]
    assert (bone.kl[row, 4], bone.tokens[row, 4]) == (sample["kl"], sample["tokens"])
    assert bone.preferences[4].tolist() == [0.4, 0.6]
    assert fronts["sft"].reward.shape == (64, 1, 2)


def test_gold_is_none_where_the_source_knows_none(samples):
    edit(samples["bone"], lambda rows: rows.drop(columns=["gold_helpful", "gold_harmless"]))
    assert {f.method: f.gold is None for f in read_fronts(samples, OBJECTIVES)}["bone"]


def test_judges_stand_between_gold_and_what_they_judge(samples):
    for path in samples.values():
        edit(path, lambda rows: rows.assign(judge_helpful=rows["gold_helpful"] / 2, judge_harmless=0.25))
    fronts = read_fronts(samples, OBJECTIVES)
    assert {front.units for front in fronts} == {("gold", "judge", "reward")}
    assert (fronts[0].judge[..., 0] == fronts[0].gold[..., 0] / 2).all()
    assert read_examples(samples, OBJECTIVES, 1)[0].responses["bone"][3].judge[1] == 0.25
    for path in samples.values():
        edit(path, lambda rows: rows.drop(columns=["gold_helpful", "gold_harmless"]))
    fronts = read_fronts(samples, OBJECTIVES)
    results = evaluate(fronts, [-1], 0.2, Statistics(50, 0.95, 0))
    assert results.units == ("judge", "reward")
    assert "of judge (held-out) score" in tables.finding(tables.document(results))
    assert measured(fronts, Statistics(50, 0.95, 0))["unit"] == "judge"


def test_a_judges_score_that_is_not_finite_is_refused(samples):
    edit(samples["bone"], lambda rows: rows.assign(judge_helpful=np.inf, judge_harmless=0.0))
    with pytest.raises(ValueError, match="judge_helpful of bone is inf at point 0, row 0"):
        read_fronts(samples, OBJECTIVES)


def test_other_prompts_are_refused_with_method_and_id(samples):
    edit(samples["bone"], lambda rows: rows.replace({"prompt_id": {"test-0005": "test-9999"}}))
    with pytest.raises(ValueError, match=r"bone and sft .* position 5 bone has 'test-9999', sft has 'test-0005'"):
        read_fronts(samples, OBJECTIVES)


def test_another_order_is_refused(samples):
    edit(samples["oracle"], lambda rows: rows.iloc[::-1])
    with pytest.raises(ValueError, match="oracle and sft .* position 0"):
        read_fronts(samples, OBJECTIVES)


def test_a_missing_prompt_is_refused(samples):
    edit(samples["oracle"], lambda rows: rows[rows["prompt_id"] != "test-0063"])
    with pytest.raises(ValueError, match="position 63 oracle has nothing, sft has 'test-0063'"):
        read_fronts(samples, OBJECTIVES)


def test_a_point_with_other_prompts_is_refused(samples):
    edit(samples["bone"], lambda rows: rows.drop(index=rows.index[(rows["point"] == 3)][2]))
    with pytest.raises(ValueError, match="point 3 of bone has 'test-0003' at position 2, point 0 has 'test-0002'"):
        read_fronts(samples, OBJECTIVES)


def test_nan_is_refused_by_method_point_and_row(samples):
    def spoil(rows):
        rows.loc[64 * 2 + 7, "gold_harmless"] = np.nan

    edit(samples["rewarded"], spoil)
    with pytest.raises(ValueError, match="gold_harmless of rewarded is nan at point 2, row 135"):
        read_fronts(samples, OBJECTIVES)


def test_missing_column_and_file_are_refused(samples, tmp_path):
    edit(samples["bone"], lambda rows: rows.drop(columns="reward_harmless"))
    with pytest.raises(ValueError, match="no column reward_harmless"):
        read_fronts(samples, OBJECTIVES)
    with pytest.raises(ValueError, match="bonesoup stage front bone"):
        read_fronts({"bone": tmp_path / "none.parquet"}, OBJECTIVES)


def test_examples_pair_the_same_prompt_across_methods(samples):
    examples = read_examples(samples, OBJECTIVES, 3)
    assert [example.prompt for example in examples] == [f"how do i plan trip number {i} ?" for i in (0, 32, 63)]
    rows = pd.read_parquet(samples["oracle"])
    expected = rows[rows["prompt_id"] == "test-0032"].sort_values("point")["response"].tolist()
    assert [response.text for response in examples[1].responses["oracle"]] == expected
    assert len(examples[0].responses["sft"]) == 1


def test_the_log_of_a_correction_shows_its_kl_to_the_sft_policy(tmp_path):
    """It is trained against its soup, with -log(soup / sft) as a reward more."""
    plain = {"step": 1, "reward/helpful": 0.5, "kl": 2.0}
    write_jsonl(tmp_path / "plain.jsonl", [plain])
    write_jsonl(tmp_path / "curve.jsonl", [plain | {"kl": 0.5, "reward/drift": -1.5}])
    logs = read_training({"specialist-1": tmp_path / "plain.jsonl", "curve-3": tmp_path / "curve.jsonl"})
    assert logs == {"specialist-1": [plain], "curve-3": [plain]}
