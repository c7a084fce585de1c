"""SFT: from a config or an existing folder, every weight or LoRA, always an ordinary Hugging Face folder."""

from functools import partial

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from bonesoup import resume
from bonesoup.generation.sample import sample
from bonesoup.settings.schema import Lora, Model, Sft
from bonesoup.training import sft
from bonesoup.training.base import base_policy
from bonesoup.training.sft import conversation, train_sft

ROWS = [
    {"id": topic, "prompt": [{"role": "user", "content": f"Please explain {topic}"}], "response": answer}
    for topic, answer in [("baking", "Use flour."), ("chess", "Try boards."), ("hacking", "Sorry, I cannot.")] * 4
]


def fit(policy, tokenizer, tmp_path, lora=None, steps=12):
    settings = Sft(steps=steps, batch=4, learning_rate=0.01, lora=lora)
    return train_sft(policy, tokenizer, ROWS, ROWS[:3], settings, seed=0, scratch=tmp_path, device="cpu")


def test_full_training_moves_every_weight_and_learns(tiny_policy, tmp_path):
    policy, tokenizer = base_policy(Model(source=str(tiny_policy), context=64), [], seed=0)
    before = {name: value.clone() for name, value in policy.named_parameters()}
    trained, metrics = fit(policy, tokenizer, tmp_path)
    for name, value in trained.named_parameters():
        assert not torch.equal(value, before[name]), name
    assert metrics["validation_loss"] < metrics["validation_loss_before"] - 0.5


def test_lora_training_ends_as_a_plain_model_whose_unadapted_weights_did_not_move(tiny_policy, tmp_path):
    policy, tokenizer = base_policy(Model(source=str(tiny_policy), context=64), [], seed=0)
    trained, metrics = fit(policy, tokenizer, tmp_path, Lora(rank=4, alpha=8))
    trained.save_pretrained(tmp_path / "out")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out").state_dict()
    start = AutoModelForCausalLM.from_pretrained(tiny_policy).state_dict()
    assert again.keys() == start.keys()
    moved = {name for name in start if not torch.equal(start[name], again[name])}
    assert moved == {name for name in start if "_proj" in name}
    assert metrics["validation_loss"] < metrics["validation_loss_before"]


def test_prompt_tokens_carry_no_loss(tiny_policy, tmp_path):
    """The loss TRL reports is the mean over response tokens and the end token, computed here by hand."""
    policy, tokenizer = base_policy(Model(source=str(tiny_policy), context=64), [], seed=0)
    _, metrics = fit(policy, tokenizer, tmp_path, steps=1)
    model = AutoModelForCausalLM.from_pretrained(tiny_policy).eval()
    losses = []
    for row in ROWS[:3]:
        prompt = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True)["input_ids"]
        answer = tokenizer(row["response"], add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
        with torch.inference_mode():
            logs = model(torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
        losses += [-logs[len(prompt) - 1 + i, token].item() for i, token in enumerate(answer)]
    assert metrics["validation_loss_before"] == pytest.approx(sum(losses) / len(losses), abs=1e-4)


@pytest.mark.parametrize("lora", [None, Lora(rank=4, alpha=8)])
@pytest.mark.parametrize("at", [1, 5, 12])
def test_a_killed_run_goes_on_to_the_same_weights_bit_for_bit(tiny_policy, tmp_path, monkeypatch, capsys, lora, at):
    """Four rows a step of twelve: step 5 lies in the second epoch, in another order of rows."""

    def run(folder):
        policy, tokenizer = base_policy(Model(source=str(tiny_policy), context=64), [], seed=0)
        torch.manual_seed(0)
        trained, metrics = fit(policy, tokenizer, folder, lora)
        return trained.state_dict(), metrics

    monkeypatch.setattr(resume, "SHARE", float("inf"))
    monkeypatch.setattr(sft, "train", partial(resume.train, seconds=0))
    whole, metrics = run(tmp_path / "whole")
    saved = resume.SaveEvery.on_step_end

    def dying(self, args, state, control, **rest):
        saved(self, args, state, control, **rest)
        if state.global_step == at:
            raise KeyboardInterrupt

    monkeypatch.setattr(resume.SaveEvery, "on_step_end", dying)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed")
    monkeypatch.setattr(resume.SaveEvery, "on_step_end", saved)
    capsys.readouterr()
    again, resumed = run(tmp_path / "killed")
    assert (f"sft: resuming at step {at - 1} of 12" in capsys.readouterr().out) == (at > 1)
    assert resumed == metrics
    assert whole.keys() == again.keys()
    assert all(torch.equal(value, again[name]) for name, value in whole.items())


def test_scratch_policies_follow_their_seed():
    one, _ = base_policy(Model(source="scratch", hidden=16, heads=2), ["a b"], seed=1)
    same, _ = base_policy(Model(source="scratch", hidden=16, heads=2), ["a b"], seed=1)
    other, _ = base_policy(Model(source="scratch", hidden=16, heads=2), ["a b"], seed=2)
    weight = "model.embed_tokens.weight"
    assert torch.equal(one.state_dict()[weight], same.state_dict()[weight])
    assert not torch.equal(one.state_dict()[weight], other.state_dict()[weight])


def bare(folder, tiny_policy, template: str | None):
    """Copy the tiny policy with another chat template, or none."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_policy)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    AutoModelForCausalLM.from_pretrained(tiny_policy).save_pretrained(folder)
    if template is None:
        (folder / "chat_template.jinja").unlink(missing_ok=True)
    return base_policy(Model(source=str(folder), context=64), [], seed=0)[1]


TURNS = "{% for m in messages %}[{{ m.role }}] {{ m.content }}END{% endfor %}"
ASKED = "{% if add_generation_prompt %}[assistant] {% endif %}"
# Some put a thought before an answer, or end it with plain text.
UNFIT = {
    "none": None,
    "no end token": TURNS + ASKED,
    "a thought": "{% for m in messages %}[{{ m.role }}] {% if m.role == 'assistant' %}<think></think>{% endif %}"
    "{{ m.content }}{{ eos_token }}{% endfor %}{% if add_generation_prompt %}[assistant] {% endif %}",
}


@pytest.mark.parametrize("name", UNFIT)
def test_a_pretrained_tokenizer_without_a_template_that_will_do_gets_ours(tiny_policy, tmp_path, name):
    tokenizer = bare(tmp_path / "bare", tiny_policy, UNFIT[name])
    messages = conversation(ROWS[0])["prompt"]
    prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    answer = [{"role": "assistant", "content": "Use flour."}]
    assert tokenizer.apply_chat_template([*messages, *answer], tokenize=False) == f"{prompt}Use flour.<|end|>"
    assert "Please explain baking" in prompt


def test_a_template_that_ends_answers_with_the_end_token_is_kept(tiny_policy, tmp_path):
    template = TURNS.replace("END", "{{ eos_token }}\n") + ASKED
    assert bare(tmp_path / "bare", tiny_policy, template).chat_template == template


def test_the_token_that_ends_answers_becomes_the_end_token(tiny_policy, tmp_path):
    """Gemma's tokenizer names another end token than the one its answers end with."""
    template = TURNS.replace("END", "<|unknown|>") + ASKED
    tokenizer = bare(tmp_path / "bare", tiny_policy, template)
    assert (tokenizer.chat_template, tokenizer.eos_token) == (template, "<|unknown|>")


def test_gradient_checkpointing_gives_the_same_weights(tiny_policy, tmp_path):
    """It computes activations again instead of keeping them, and nothing else."""
    kept = {}
    for again in (False, True):
        policy, tokenizer = base_policy(Model(source=str(tiny_policy), context=64), [], seed=0)
        sft = Sft(steps=3, batch=4, learning_rate=0.01, lora=Lora(rank=4, alpha=8))
        folder = tmp_path / str(again)
        trained, _ = train_sft(policy, tokenizer, ROWS, ROWS[:3], sft, 0, folder, "cpu", gradient_checkpointing=again)
        kept[again] = trained.state_dict()
    for name, value in kept[False].items():
        torch.testing.assert_close(kept[True][name], value, rtol=1e-4, atol=1e-6)


def test_sampling_defaults_of_a_pretrained_base_are_dropped(tiny_policy, tmp_path):
    """They would act in evaluation and not in training, so that the two sample from different distributions."""
    model = AutoModelForCausalLM.from_pretrained(tiny_policy)
    model.generation_config.update(repetition_penalty=5.0, top_p=0.5, do_sample=True)
    model.save_pretrained(tmp_path / "theirs")
    AutoTokenizer.from_pretrained(tiny_policy).save_pretrained(tmp_path / "theirs")
    prompts, seeds = [ROWS[0]["prompt"]] * 16, list(range(16))
    policy, tokenizer = base_policy(Model(source=str(tmp_path / "theirs"), context=64), [], seed=0)
    plain = AutoModelForCausalLM.from_pretrained(tiny_policy).eval()
    assert sample(policy.eval(), tokenizer, prompts, seeds, 1.0, 12, 16) == sample(
        plain, tokenizer, prompts, seeds, 1.0, 12, 16
    )


def test_a_text_that_does_not_fit_the_context_is_named(tiny_policy, tmp_path):
    policy, tokenizer = base_policy(Model(source=str(tiny_policy), context=8), [], seed=0)
    with pytest.raises(ValueError, match=r"5 SFT texts do not fit model.context = 8: row hacking has 9 tokens"):
        fit(policy, tokenizer, tmp_path)


def test_a_context_beyond_a_pretrained_models_positions_is_refused(tiny_policy):
    with pytest.raises(ValueError, match=r"model.context = 65, but .* has 64 positions"):
        base_policy(Model(source=str(tiny_policy), context=65), [], seed=0)
