"""An evaluation that is killed resumes bit for bit, and only from what was made with the same inputs."""

import numpy as np
import pandas as pd
import pytest
import torch
from peft import LoraConfig, get_peft_model
from pinned import default
from transformers import AutoModelForCausalLM

from bonesoup.evaluation import front_rows as module
from bonesoup.evaluation.kept import FRONTS
from bonesoup.files import read_jsonl, write_json, write_jsonl
from bonesoup.generation import sweep
from bonesoup.paths import FRONTS as OUT
from bonesoup.paths import PROMPTS, SFT, SOUPS
from bonesoup.settings import schema
from bonesoup.stages import front

POINTS, TEST_PROMPTS = 5, 6


@pytest.fixture
def settings(staged) -> schema.Settings:
    """Make a run whose front of `bone` has five preferences and six prompts, evaluated four rows at a time."""
    policies = []
    for k, row in enumerate(([0.7, 0.3], [0.3, 0.7])):
        torch.manual_seed(k)
        base = AutoModelForCausalLM.from_pretrained(SFT)
        config = LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)
        get_peft_model(base, config).save_pretrained(f"out/policies/backbone-{k}")
        policies.append({"slot": f"backbone-{k}", "path": f"out/policies/backbone-{k}", "row": row})
    grid = [[w, 1 - w] for w in np.linspace(0, 1, POINTS).tolist()]
    soup = {"method": "bone", "base": str(SFT), "objectives": ["helpful", "harmless"], "mapping": "solve"}
    write_json(SOUPS / "bone.json", soup | {"policies": policies, "preferences": grid})
    rows = read_jsonl(PROMPTS)
    write_jsonl(PROMPTS, [row | {"split": "test"} for row in rows])
    write_json(staged / "out/normaliser.json", {"mean": [-1.0, -1.0], "std": [1.0, 2.0], "gold": None})
    raw = default()
    raw["data"] |= {"source": "hh-rlhf"}
    raw["evaluation"] |= {"samples": TEST_PROMPTS, "batch": 4}
    raw["generation"] |= {"max_new_tokens": 8}
    return schema.Settings.model_validate(raw, context=schema.Check())


def samples() -> pd.DataFrame:
    return pd.read_parquet(OUT / "bone/samples.parquet")


@pytest.mark.parametrize("place", ["sampling", "scoring", "the KL"])
def test_a_front_that_is_killed_resumes_bit_for_bit(settings, monkeypatch, capsys, place):
    front.run(settings, "bone")
    unbroken = samples()
    assert len(unbroken) == POINTS * TEST_PROMPTS
    assert not list(FRONTS.glob("*")), "what is in place is not kept twice"
    owner, name = {
        "sampling": (sweep, "sample"),
        "scoring": (module.Scorer, "columns"),
        "the KL": (module, "log_probabilities"),
    }[place]
    original, calls = getattr(owner, name), []

    def dying(*arguments, **options):
        calls.append(name)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return original(*arguments, **options)

    monkeypatch.setattr(owner, name, dying)
    with pytest.raises(KeyboardInterrupt):
        front.run(settings, "bone")
    capsys.readouterr()
    front.run(settings, "bone")
    # Of 30 rows 8 batches: three before the kill, the torn one, and from it on the rest.
    assert len(calls) == 3 + 1 + 5
    assert "front@bone: resuming after " in capsys.readouterr().out
    pd.testing.assert_frame_equal(samples(), unbroken, check_exact=True)
    assert not list(FRONTS.glob("*"))


def test_what_was_made_with_other_inputs_is_not_taken(settings, monkeypatch, capsys):
    front.run(settings.model_copy(update={"seed": 5}), "bone")
    other = samples()

    def dying(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "log_probabilities", dying)
        with pytest.raises(KeyboardInterrupt):
            front.run(settings, "bone")
    assert len(list(FRONTS.glob("*/part-*.json"))) == 8
    capsys.readouterr()
    front.run(settings.model_copy(update={"seed": 5}), "bone")
    assert "resuming" not in capsys.readouterr().out
    pd.testing.assert_frame_equal(samples(), other, check_exact=True)
