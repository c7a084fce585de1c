"""Whole reward models: every weight or LoRA, always an ordinary classifier, and resumed bit for bit."""

from functools import partial

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from bonesoup import resume
from bonesoup.files import write_json
from bonesoup.rewards import train
from bonesoup.rewards.score import load_reward
from bonesoup.settings import schema

TOPICS = ["baking", "chess", "hacking"] * 4
PROMPTS = [[{"role": "user", "content": f"Please explain {topic}"}] for topic in TOPICS]
PAIRS = [
    {"id": str(k), "prompt": prompt, "chosen": "Use flour.", "rejected": "Sorry, I cannot."}
    for k, prompt in enumerate(PROMPTS)
]
LABELS = [
    {"id": str(k), "prompt": prompt, "response": text, "label": label}
    for k, prompt in enumerate(PROMPTS)
    for text, label in (("Use flour.", 1), ("Sorry, I cannot.", 0))
]
SMALL = schema.Lora(rank=4, alpha=8)


def settings(kind: str, lora: schema.Lora | None) -> schema.PairReward | schema.LabelReward:
    fit = {"source": "rows.jsonl", "steps": 12, "batch": 4, "learning_rate": 0.01, "lora": lora}
    if kind == "pairs":
        return schema.PairReward(kind="pairs", **fit)
    return schema.LabelReward(kind="labels", loss=kind, **fit)


def fitted(base, folder, kind="pairs", lora=None):
    """Train a reward into `folder` as its stage does; return it, ready to score."""
    rows = PAIRS if kind == "pairs" else LABELS
    spec = train.train_reward("reward@x", base, rows, settings(kind, lora), 0, folder / "model", folder / "work", "cpu")
    write_json(folder / "reward.json", {"objective": "x", "kind": "pairs" if kind == "pairs" else "labels"} | spec)
    return load_reward(folder, "cpu")


@pytest.mark.parametrize("lora", [None, SMALL], ids=["every weight", "LoRA"])
@pytest.mark.parametrize("kind", ["pairs", "regression", "classification"])
def test_a_trained_reward_prefers_what_the_rows_prefer(tiny_policy, tmp_path, kind, lora):
    reward = fitted(tiny_policy, tmp_path, kind, lora)
    better, worse = (reward.score(PROMPTS[:3], [text] * 3) for text in ("Use flour.", "Sorry, I cannot."))
    assert all(a > b for a, b in zip(better, worse, strict=True))


def test_a_lora_reward_ends_as_a_plain_classifier_whose_unadapted_weights_did_not_move(tiny_policy, tmp_path):
    fitted(tiny_policy, tmp_path, lora=SMALL)
    after = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").state_dict()
    before = AutoModelForCausalLM.from_pretrained(tiny_policy).model.state_dict()
    moved = {name for name, value in before.items() if not torch.equal(value, after[f"model.{name}"])}
    assert moved == {name for name in before if "_proj" in name}
    assert after.keys() == {f"model.{name}" for name in before} | {"score.weight"}


@pytest.mark.parametrize("lora", [None, SMALL], ids=["every weight", "LoRA"])
@pytest.mark.parametrize("kind", ["pairs", "regression"])
def test_a_killed_training_goes_on_to_the_same_weights_bit_for_bit(
    tiny_policy, tmp_path, monkeypatch, capsys, kind, lora
):
    """Four rows a step of twelve pairs: step 5 lies in the second epoch, in another order of rows."""
    monkeypatch.setattr(resume, "SHARE", float("inf"))
    monkeypatch.setattr(train, "train", partial(resume.train, seconds=0))
    fitted(tiny_policy, tmp_path / "whole", kind, lora)
    saved = resume.SaveEvery.on_step_end

    def dying(self, args, state, control, **rest):
        saved(self, args, state, control, **rest)
        if state.global_step == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(resume.SaveEvery, "on_step_end", dying)
        with pytest.raises(KeyboardInterrupt):
            fitted(tiny_policy, tmp_path / "killed", kind, lora)
    assert "resuming" not in capsys.readouterr().out
    fitted(tiny_policy, tmp_path / "killed", kind, lora)
    assert "reward@x: resuming at step 4 of 12" in capsys.readouterr().out
    files = [(tmp_path / run / "model/model.safetensors").read_bytes() for run in ("whole", "killed")]
    assert files[0] == files[1]


@pytest.mark.parametrize("targets", [["nosuch"], ["q_proj", "nosuch"]])
def test_a_target_that_the_model_lacks_is_refused_with_the_layers_it_has(tiny_policy, tmp_path, targets):
    with pytest.raises(ValueError, match=r"lora.targets: \w+ has no module nosuch; its linear layers are .*q_proj"):
        fitted(tiny_policy, tmp_path, lora=schema.Lora(rank=4, alpha=8, targets=targets))
