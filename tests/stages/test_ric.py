"""The ric stage does nothing unless asked, and its fingerprint covers everything that affects the model."""

from pathlib import Path

import pytest
from pinned import default

from bonesoup.files import read_json, write_jsonl
from bonesoup.generation.sample import render
from bonesoup.paths import PROMPTS, RIC, SFT, SFT_ROWS
from bonesoup.settings import params
from bonesoup.stages import ric
from bonesoup.weights.pretrained import load_tokenizer


@pytest.fixture
def repository(request) -> Path:
    return request.config.rootpath


@pytest.fixture
def project(staged, prompts) -> Path:
    """Add SFT texts to the staged files."""
    texts = [{"id": str(k), "split": "train", "prompt": p, "response": "yes " * (k + 1)} for k, p in enumerate(prompts)]
    write_jsonl(SFT_ROWS, [*texts, texts[0] | {"split": "validation", "response": "no"}])
    return staged


def settings(repository: Path, *methods: str, **rl):
    raw = default()
    raw["rl"] |= {"steps": 2, "updates": None, "prompts": 2, "generations": 2, "micro_batch": 4} | rl
    raw["methods"] = [*raw["methods"], *methods]
    raw["ric"] |= {"rounds": 1, "online": 0.5}
    return params.check(raw)


def test_nothing_is_trained_where_it_is_not_asked_for(project, repository):
    ric.run(settings(repository), None)
    assert [path.name for path in RIC.iterdir()] == ["skipped.json"]
    ric.run(settings(repository, "ric"), None)
    assert {"model.safetensors", "tokenizer.json", "ric.json"} <= {path.name for path in RIC.iterdir()}
    assert not (RIC / "skipped.json").exists()


def test_other_methods_train_nothing_anew_and_other_settings_do(project, repository, capfd):
    ric.run(settings(repository, "ric"), None)
    facts = read_json(RIC / "ric.json")
    assert facts["updates"] == 2 * 2
    assert facts["responses_scored"] == 6 + 2 * 4 <= 4 * 4
    first = (RIC / "model.safetensors").read_bytes()
    capfd.readouterr()
    ric.run(settings(repository, "unmapped", "ric", kl=0.3), None)
    assert "step" not in capfd.readouterr().out
    assert (RIC / "model.safetensors").read_bytes() == first
    ric.run(settings(repository, "ric", steps=3), None)
    assert read_json(RIC / "ric.json")["updates"] == 6
    assert (RIC / "model.safetensors").read_bytes() != first


def test_a_prompt_that_only_fits_without_reward_tokens_is_refused(project, repository):
    tokenizer = load_tokenizer(SFT)
    room = tokenizer.model_max_length - settings(repository).generation.max_new_tokens
    overhead = len(tokenizer(render(tokenizer, [[{"role": "user", "content": "yes"}]]))["input_ids"][0]) - 1
    full = [{"role": "user", "content": "yes " * (room - overhead)}]
    write_jsonl(PROMPTS, [{"id": "full", "split": "train", "prompt": full}])
    with pytest.raises(ValueError, match="1 prompts with RiC's reward tokens and responses do not fit .* row full"):
        ric.run(settings(repository, "ric"), None)
