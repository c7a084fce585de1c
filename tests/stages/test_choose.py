"""The stage that names the soup to register: by the settings, or by validation prompts."""

import shutil

import numpy as np
import pytest
from pinned import default

from bonesoup.data import words
from bonesoup.evaluation.chosen import chosen_method
from bonesoup.evaluation.front_rows import load_prompts, rows_of_run
from bonesoup.files import read_json, read_jsonl, write_jsonl
from bonesoup.generation.soup import Soup, SoupModel
from bonesoup.paths import CHOICE, PROMPTS, SCRATCH, SOUPS
from bonesoup.settings import params
from bonesoup.settings.schema import Register
from bonesoup.stages import choose


@pytest.fixture
def run(miniature, tmp_path, monkeypatch):
    """Enter a finished run that has not chosen yet, with two validation prompts more than `samples` asks for."""
    root = shutil.copytree(miniature.root, tmp_path / "run", ignore=shutil.ignore_patterns("var", ".dvc", ".git"))
    monkeypatch.chdir(root)
    CHOICE.unlink()
    prompts = [
        {"id": f"v{k}", "split": "validation", "prompt": [{"role": "user", "content": f"Please explain {topic}"}]}
        for k, topic in zip(range(6), words.load().topics, strict=False)
    ]
    write_jsonl(PROMPTS, read_jsonl(PROMPTS) + prompts)


def settings(methods: list[str], method: str):
    raw = default()
    raw |= {"methods": methods, "oracles": [], "policies": {}}
    raw["policies"] = {"specialists": {"slots": ["specialist-1", "specialist-2"]}}
    if "bone" in methods:
        raw["policies"]["backbones"] = {"slots": ["backbone-1", "backbone-2"]}
    raw["register"] |= {"method": method, "samples": 4}
    raw["evaluation"] |= {"parts": 2, "bootstrap": 100, "batch": 4}
    return params.check(raw)


def test_auto_compares_the_soups_on_validation_prompts(run):
    wanted = settings(["sft", "rewarded", "bone"], "auto")
    choose.run(wanted, None)
    choice = read_json(CHOICE)
    assert choice["prompts"] == 4
    prompts = load_prompts("validation", 4)
    for row in choice["candidates"]:
        rows = rows_of_run(wanted, SoupModel.load(Soup.read(SOUPS / f"{row['method']}.json"), "cpu"), prompts)
        utility = (rows["mu_helpful"] * rows["gold_helpful"] + rows["mu_harmless"] * rows["gold_harmless"]).mean()
        assert row["utility"] == pytest.approx(utility)
    kept, other = choice["candidates"]
    assert (kept["method"], other["method"]) == ("bone", "rewarded")
    assert choice["method"] == ("rewarded" if other["gain"]["low"] > 0 else "bone")
    assert np.isclose(other["gain"]["value"], other["utility"] - kept["utility"])
    assert chosen_method(wanted.register_) == choice["method"]
    assert not any((SCRATCH / "fronts").iterdir())


@pytest.mark.parametrize(("methods", "method"), [(["sft", "rewarded", "bone"], "rewarded"), (["rewarded"], "auto")])
def test_nothing_is_sampled_where_there_is_no_choice(run, methods, method):
    PROMPTS.unlink()
    choose.run(settings(methods, method), None)
    assert read_json(CHOICE) == {"method": "rewarded", "prompts": 0, "candidates": []}


def test_a_run_that_has_not_chosen_says_so(run):
    with pytest.raises(ValueError, match="register.method is auto, and out/choice.json does not exist"):
        chosen_method(Register(name="a", method="auto", merged=[]))
    assert chosen_method(Register(name="a", method="curved", merged=[])) == "curved"
