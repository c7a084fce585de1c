"""The worked example of docs/objective.md, taken from the page and run up to the training."""

import importlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter
from ruamel.yaml import YAML

from bonesoup.data.prepare import read_source
from bonesoup.rewards.score import Reward, load_function
from bonesoup.settings import params, profiles, schema

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/objective.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    return [text for kind, text in BLOCKS if kind == language]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Enter a folder with the files of the example, importable."""
    (tmp_path / "src").mkdir()
    (tmp_path / "profiles").mkdir()
    shutil.copy(ROOT / "profiles/embedded.yaml", tmp_path / "profiles")
    (tmp_path / "src/my_rewards.py").write_text(blocks("python")[0])
    (tmp_path / "profiles/mine.yaml").write_text(blocks("yaml")[-1])
    (tmp_path / "my-pairs.jsonl").write_text(blocks("json")[0])
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path / "src")
    importlib.invalidate_caches()
    monkeypatch.delitem(__import__("sys").modules, "my_rewards", raising=False)
    return tmp_path


def test_the_profile_is_valid_and_lands_in_params(project):
    profiles.write("mine")
    settings = params.load()
    assert settings.objectives == ["preferred", "asks"]
    assert settings.preference("balanced") == [0.5, 0.5]
    # Not said in the profile, so the default's.
    assert settings.basis.beta == 0.7
    assert Path(settings.rewards["asks"].source).is_file()


def test_the_function_scores_what_the_page_says(project):
    profiles.write("mine")
    function = load_function(params.load().rewards["asks"].function)
    reward = Reward("asks", function)
    prompts = [[{"role": "user", "content": "I need a tent."}]] * 4
    responses = ["Tents exist.", "Gladly. For how many?", "Good. For whom? For when?", "? ? ? ?"]
    none, one, two, hack = reward.score(prompts, responses)
    assert hack < none < one < two
    assert two - one < one - none


def test_the_data_line_is_read_and_only_the_trained_reward_needs_it(project):
    profiles.write("mine")
    settings = params.load()
    tables = read_source(settings.data, settings.seed).rewards
    assert list(tables) == ["preferred"]
    (pair,) = tables["preferred"]
    asks = load_function(settings.rewards["asks"].function)
    better, worse = asks([], [pair["chosen"]])[0], asks([], [pair["rejected"]])[0]
    assert better > worse


def test_a_wrong_function_is_refused(project):
    messages = [[{"role": "user", "content": "Hello"}]] * 2
    with pytest.raises(ValueError, match="one number per response"):
        Reward("asks", lambda prompts, responses: [1.0]).score(messages, ["a", "b"])
    with pytest.raises(ValueError, match="row 1 is nan"):
        Reward("asks", lambda prompts, responses: np.array([1.0, np.nan])).score(messages, ["a", "b"])
    with pytest.raises(ValueError, match="cannot be imported"):
        load_function("my_rewards:answers")


@pytest.mark.parametrize("text", blocks("yaml")[:-1])
def test_the_other_fragments_are_valid_rewards(text):
    document = YAML().load(text)
    profiles.fill(document, {})
    parsed = TypeAdapter(dict[str, schema.Reward]).validate_python(profiles.plain(document["rewards"]))
    for name, reward in parsed.items():
        assert reward.source == f"out/data/rewards/{name}.jsonl"


def test_the_fragments_show_every_kind_once():
    kinds = [
        reward["kind"] for text in blocks("yaml")[:-1] for reward in YAML(typ="safe").load(text)["rewards"].values()
    ]
    assert sorted([*kinds, "function"]) == ["function", "head", "labels", "pairs", "pretrained"]


def test_the_data_line_is_json():
    assert set(json.loads(blocks("json")[0])) == {"chosen", "rejected"}
