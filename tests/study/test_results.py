"""A cell's result is small, complete, and tied to the settings that made it."""

import json
import shutil
from dataclasses import replace

import pytest

from bonesoup.study import cells, results

CELL = cells.Cell("default", 3, "embedded", {"evaluation.samples": 64})


def test_a_result_says_what_ran_where(cell):
    assert not results.known("small", CELL)
    cell("default", 3, 0.1, 0.05)
    assert results.known("small", CELL)
    (result,) = results.read("small")
    assert {key: result[key] for key in ("setting", "seed", "profile", "commit", "seconds")} == {
        "setting": "default",
        "seed": 3,
        "profile": "embedded",
        "commit": "0123456789abcdef",
        "seconds": 12,
    }
    assert result["changes"] == {"evaluation.samples": 64}
    assert result["stages"]["policy@specialists"] == {"seconds": 2.5, "peak_mb": 300}
    assert result["machine"]["cores"] >= 1
    bone = result["grids"]["full_grid"]["gold"]["difference_to_rewarded"]["bone"]
    assert bone["inner_product_interior"] == pytest.approx([0.05, 0.04, 0.06])


def test_a_result_holds_what_the_tables_need_and_no_more(cell):
    cell("default", 3, 0.1, 0.05)
    text = results.path("small", CELL).read_text()
    assert text.count("\n") == 1
    unit = json.loads(text)["grids"]["full_grid"]["gold"]
    assert "sparsity" not in unit["methods"]["bone"]
    assert list(unit["ratio_to_rewarded"]["bone"]) == ["hypervolume@-1"]


def test_a_result_of_other_settings_is_not_taken_for_this_cell(cell):
    cell("default", 3, 0.1, 0.05)
    with pytest.raises(ValueError, match=r"default-3\.json was made with other settings.*remove it"):
        results.known("small", replace(CELL, changes={"evaluation.samples": 65}))
    with pytest.raises(ValueError, match="other settings"):
        results.known("small", replace(CELL, profile="quick"))


def test_a_result_of_other_data_is_not_taken_for_this_cell(cell, tmp_path):
    data = tmp_path / "src/bonesoup/data/embedded.yaml"
    data.parent.mkdir(parents=True)
    data.write_text("one")
    cell("default", 3, 0.1, 0.05)
    assert results.known("small", CELL)
    elsewhere = tmp_path / "moved.yaml"
    shutil.copy(data, elsewhere)
    assert results.known("small", replace(CELL, data=str(elsewhere)))
    elsewhere.write_text("other")
    with pytest.raises(ValueError, match="other settings or data"):
        results.known("small", replace(CELL, data=str(elsewhere)))


def test_a_changed_profile_makes_other_cells_of_its_study(cell, tmp_path):
    cell("default", 3, 0.1, 0.05)
    profile = tmp_path / "profiles/embedded.yaml"
    profile.write_text(profile.read_text().replace("kl: 0.1", "kl: 0.2"))
    with pytest.raises(ValueError, match="other settings"):
        results.known("small", CELL)
    assert results.current(results.read("small"), [CELL]) == ([], ["default-3"])


def test_a_method_is_charged_for_its_own_policies_and_answers(cell):
    cell("default", 3, 0.1, 0.05)
    (result,) = results.read("small")
    assert result["spent"]["bone"] == {"training": 6.5, "training_cpu": 3.0, "answering": 9.5, "peak_mb": 400}
    assert result["spent"]["rewarded"] == {"training": 2.5, "peak_mb": 300}
    # Nothing is trained for SFT; what the oracles took is not known.
    assert result["spent"]["sft"] == {"training": 0, "training_cpu": 0}
    assert result["spent"]["oracle"] == {}


def test_a_stage_from_the_run_cache_took_what_it_took_where_it_ran(tmp_path):
    from bonesoup.study.run import times

    shared, separate, other = ({"cmd": "bonesoup stage x", "outs": [{"md5": letter}]} for letter in "abc")
    ran = tmp_path / "stages.jsonl"
    ran.write_text(
        '{"stage": "sft", "seconds": 5.0, "peak_mb": 70}\n'
        '{"stage": "report", "seconds": 1.0, "peak_mb": 30}\n'
        '{"stage": "report", "seconds": 2.0, "peak_mb": 30}\n'
    )
    first = times(tmp_path / "times", {"sft": shared, "report": separate}, ran)
    assert first == {"sft": {"seconds": 5.0, "peak_mb": 70}, "report": {"seconds": 2.0, "peak_mb": 30}}
    second = times(tmp_path / "times", {"sft": shared, "report": other}, tmp_path / "none")
    assert second == {"sft": {"seconds": 5.0, "peak_mb": 70}}
