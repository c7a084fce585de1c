"""The architectures that the full-size profiles name, as tiny models, on the code path that a profile runs."""

import hub_models
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from bonesoup.chat import never_sampled
from bonesoup.files import write_json
from bonesoup.generation.sample import encode, sample
from bonesoup.generation.soup import Policy, Soup, SoupModel
from bonesoup.rewards.normalise import Normaliser
from bonesoup.rewards.score import Reward, load_reward, render
from bonesoup.settings import schema
from bonesoup.training import rloo
from bonesoup.training.base import base_policy
from bonesoup.training.sft import train_sft
from bonesoup.training.task import Task

SHORT, LONG = "My neighbour's dog bit me.", "Use flour, water and salt; knead it well, and wait. " * 3


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def ask(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


@pytest.fixture(scope="module", params=hub_models.POLICIES)
def base(request, tmp_path_factory):
    return hub_models.policy(request.param, tmp_path_factory.mktemp(request.param) / "base")


@pytest.mark.parametrize("dtype", ["bfloat16", pytest.param("float32", marks=pytest.mark.slow)])
def test_a_policy_is_tuned_trained_mixed_and_sampled(base, tmp_path, dtype):
    """The path of sft, policy, soup and front with the profiles' settings: LoRA, checkpointing, bf16 weights."""
    model, tokenizer = base_policy(schema.Model(source=str(base), context=256, dtype=dtype), [], seed=0)
    assert model.dtype == getattr(torch, dtype)
    rows = [{"id": str(k), "prompt": ask(text), "response": text[::-1]} for k, text in enumerate(hub_models.TEXTS)]
    lora = schema.Lora(rank=4, alpha=8, targets="all-linear")
    sft = schema.Sft(steps=8, batch=3, learning_rate=0.01, lora=lora)
    tuned, metrics = train_sft(
        model, tokenizer, rows, rows[:2], sft, 0, tmp_path / "scratch", "cpu", gradient_checkpointing=True
    )
    assert metrics["validation_loss"] < metrics["validation_loss_before"]
    tuned.save_pretrained(tmp_path / "sft")
    tokenizer.save_pretrained(tmp_path / "sft")
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "sft")
    assert saved.dtype == getattr(torch, dtype)
    task = Task(
        base=tmp_path / "sft",
        prompts=[row["prompt"] for row in rows],
        rewards=[
            Reward("short", lambda prompts, responses: [-float(len(r)) for r in responses]),
            Reward("spaced", lambda prompts, responses: [float(r.count(" ")) for r in responses]),
        ],
        normaliser=Normaliser(np.zeros(2), np.ones(2)),
        rl=schema.Rl(
            steps=2,
            prompts=2,
            generations=2,
            micro_batch=2,
            learning_rate=0.01,
            warmup_steps=0,
            max_grad_norm=0.5,
            kl=0.2,
            checkpoint_every=2,
            lora=lora,
            limits={"kl": 1e6, "entropy": 0.0},
        ),
        generation=schema.Generation(temperature=0.7, max_new_tokens=8),
        hardware=schema.Hardware(gradient_checkpointing=True),
        seed=0,
        device="cpu",
    )
    policies = []
    for slot, row in (("backbone-1", (0.7, 0.3)), ("backbone-2", (0.3, 0.7))):
        folder = rloo.train_policy(task, slot, list(row), tmp_path / slot)
        policies.append(Policy(slot, folder, row))
    soup = Soup("bone", tmp_path / "sft", ("short", "spaced"), "solve", tuple(policies), ())
    mixed = SoupModel.load(soup)
    mixed.at([0.9, 0.1])
    prompts, seeds = [row["prompt"] for row in rows], list(range(len(rows)))
    texts = sample(mixed.model, mixed.tokenizer, prompts, seeds, 0.7, 8, 4)
    barred = set(never_sampled(mixed.tokenizer))
    assert not barred & {token for response in texts for token in response.token_ids}
    assert len({response.text for response in texts}) > 1
    alone = [sample(mixed.model, mixed.tokenizer, [p], [s], 0.7, 8, 1)[0] for p, s in zip(prompts, seeds, strict=True)]
    if dtype == "float32":
        assert texts == alone, "padding changes nothing"


def test_a_prompts_tokens_stay_whatever_is_answered(base):
    """The prompt that is sampled from is a prefix, token by token, of the dialogue that SFT and rewards read."""
    _, tokenizer = base_policy(schema.Model(source=str(base), context=256), [], seed=0)
    for answer in ("Use flour.", '"Well"', "\n1. Bake", " .5", "|> yes", "über"):
        prompt = encode(tokenizer, [ask(SHORT)])["input_ids"][0].tolist()
        (text,) = render(tokenizer, "chat", [ask(SHORT)], [answer])
        whole = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert whole[: len(prompt)] == prompt, answer
        assert whole[-1] == tokenizer.eos_token_id


# Architecture -> the input that a profile's model of it reads.
READ = {
    "gpt2": "hh",
    "bart": "response-prompt",
    "deberta-v2": "prompt-response",
    "deberta-v3": "prompt-response",
    "distilbert": "response",
}


def loaded(name: str, style: str, folder, logit: int = 0, **more) -> Reward:
    spec = {"objective": "judge", "kind": "pretrained", "model": str(folder), "input": style, "logit": logit}
    write_json(folder.parent / f"{name}-{style}-{logit}" / "reward.json", spec | more)
    return load_reward(folder.parent / f"{name}-{style}-{logit}")


@pytest.fixture(scope="module")
def judges(tmp_path_factory):
    folder = tmp_path_factory.mktemp("judges")
    return {name: hub_models.reward(name, folder / name) for name in hub_models.REWARDS}


@pytest.mark.parametrize("name", hub_models.REWARDS)
@pytest.mark.parametrize("style", ["response", "hh", "prompt-response", "response-prompt"])
def test_a_reward_model_scores_rows_of_unlike_length_together_as_alone(judges, name, style):
    reward = loaded(name, style, judges[name])
    prompts = [ask(SHORT), ask("Ouch?"), ask(LONG)]
    answers = ["I cannot help with that.", "Ask a lawyer! " * 4, "Wait."]
    together = reward.score(prompts, answers)
    alone = [reward.score([p], [a])[0] for p, a in zip(prompts, answers, strict=True)]
    np.testing.assert_allclose(together, alone, atol=1e-4)
    assert np.ptp(together) > 1e-3, "it tells texts apart"


@pytest.mark.parametrize("name", READ)
def test_a_reward_model_reads_what_its_tokenizer_makes_by_hand(judges, name):
    """Both logits, computed from the library alone, as the model's card shows it."""
    model = AutoModelForSequenceClassification.from_pretrained(judges[name]).eval()
    tokenizer = AutoTokenizer.from_pretrained(judges[name])
    answer = "Ask a lawyer!"
    if READ[name] == "hh":
        inputs = tokenizer(f"\n\nHuman: {SHORT}\n\nAssistant: {answer}", return_tensors="pt")
    else:
        given = {"response-prompt": (answer, SHORT), "prompt-response": (SHORT, answer), "response": (answer,)}
        inputs = tokenizer(*given[READ[name]], return_tensors="pt")
    with torch.inference_mode():
        expected = model(**inputs).logits[0]
    for logit in range(model.config.num_labels):
        scores = loaded(name, READ[name], judges[name], logit).score([ask(SHORT)], [answer])
        assert scores[0] == pytest.approx(expected[logit].item(), abs=1e-5)


def test_response_and_prompt_around_the_bos_token(judges):
    tokenizer = AutoTokenizer.from_pretrained(judges["gpt2"])
    text = f"Bitten. <|endoftext|> {SHORT}"
    assert render(tokenizer, "response-bos-prompt", [ask(SHORT)], ["Bitten."]) == [text]
    same = loaded("gpt2", "response", judges["gpt2"]).score([ask("")], [text])
    assert loaded("gpt2", "response-bos-prompt", judges["gpt2"]).score([ask(SHORT)], ["Bitten."]) == same


@pytest.mark.parametrize("style", ["prompt-response", "response-prompt", "response-bos-prompt", "hh"])
def test_what_is_too_long_gives_up_the_prompts_end_that_is_far_from_the_response(judges, style):
    """Two prompts that differ only where they are cut score alike; two responses never do."""
    name = "gpt2" if style in ("response-bos-prompt", "hh") else "bart"
    reward = loaded(name, style, judges[name])
    first = style in ("response-prompt", "response-bos-prompt")  # the response comes first, so the prompt's end goes
    filler = "and wait " * 400
    near, far = ("Bread. " + filler, filler + "Bread.") if first else (filler + "Bread.", "Bread. " + filler)
    cut = ask(near), ask(near.replace(filler, filler + "again ") if first else "again " + near)
    one, same = (reward.score([prompt], ["Ask a lawyer!"])[0] for prompt in cut)
    assert one == pytest.approx(same, abs=1e-5)
    assert reward.score([ask(near)], ["Ask a lawyer."])[0] != pytest.approx(one, abs=1e-5)
    assert reward.score([ask(far)], ["Ask a lawyer!"])[0] != pytest.approx(one, abs=1e-5)
