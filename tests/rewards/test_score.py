"""Rewards: what they read, what they refuse, and how they are measured and scaled."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from bonesoup.files import write_json
from bonesoup.rewards.brevity import brevity
from bonesoup.rewards.held_out import held_out
from bonesoup.rewards.normalise import Normaliser, fit
from bonesoup.rewards.score import Reward, classify, load_reward, render


def prompt(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


@pytest.fixture(scope="module")
def classifier(tiny_policy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reward") / "model"
    torch.manual_seed(0)
    AutoModelForSequenceClassification.from_pretrained(tiny_policy, num_labels=2).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_policy).save_pretrained(folder)
    return folder


def test_batched_scores_equal_one_at_a_time(classifier):
    model = AutoModelForSequenceClassification.from_pretrained(classifier).eval()
    tokenizer = AutoTokenizer.from_pretrained(classifier)
    texts = render(tokenizer, "chat", [prompt("baking")] * 3, ["yes", "Use flour. Stay careful!", "no no no"])
    together = classify(model, tokenizer, texts, batch=3)
    alone = np.concatenate([classify(model, tokenizer, [text], batch=1) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_the_named_logit_is_the_reward(classifier, tmp_path):
    scores = []
    for logit in (0, 1):
        spec = {"objective": "humor", "kind": "pretrained", "model": str(classifier), "input": "chat", "logit": logit}
        write_json(tmp_path / str(logit) / "reward.json", spec)
        scores.append(load_reward(tmp_path / str(logit)).score([prompt("baking")], ["yes"]))
    model, tokenizer = (
        AutoModelForSequenceClassification.from_pretrained(classifier),
        AutoTokenizer.from_pretrained(classifier),
    )
    text = render(tokenizer, "chat", [prompt("baking")], ["yes"])
    np.testing.assert_allclose(np.stack(scores, 1), classify(model.eval(), tokenizer, text, 1), atol=1e-6)


def test_a_language_model_is_no_reward_model(tiny_policy, tmp_path):
    spec = {"objective": "humor", "kind": "pretrained", "model": str(tiny_policy), "input": "chat", "logit": 0}
    write_json(tmp_path / "reward.json", spec)
    with pytest.raises(ValueError, match=r"is not a trained reward model: its checkpoint lacks score.weight"):
        load_reward(tmp_path)


def test_a_logit_the_model_lacks_is_refused(classifier, tmp_path):
    spec = {"objective": "humor", "kind": "pretrained", "model": str(classifier), "input": "chat", "logit": 2}
    write_json(tmp_path / "reward.json", spec)
    with pytest.raises(ValueError, match=r"reward humor: logit 2 .* has 2 labels"):
        load_reward(tmp_path)


def test_input_formats():
    dialogue = [*prompt("Hi"), {"role": "assistant", "content": "Hello"}, *prompt("How?")]
    assert render(None, "response", [dialogue], ["So."]) == ["So."]
    assert render(None, "hh", [dialogue], ["So."]) == [
        "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: How?\n\nAssistant: So."
    ]


def test_accuracy_on_pairs_counts_ties_as_wrong():
    reward = Reward("short", brevity)
    rows = [
        {"prompt": prompt("a"), "chosen": "x", "rejected": "x y"},
        {"prompt": prompt("a"), "chosen": "x y", "rejected": "x"},
        {"prompt": prompt("a"), "chosen": "x", "rejected": "y"},
        {"prompt": prompt("a"), "chosen": "x", "rejected": "x y z"},
    ]
    metrics = held_out(reward, rows)
    assert metrics["accuracy"] == 0.5
    assert metrics["n"] == 4
    # Clopper-Pearson for 2 of 4, from published tables.
    assert metrics["accuracy_low"] == pytest.approx(0.0676, abs=1e-3)
    assert metrics["accuracy_high"] == pytest.approx(0.9324, abs=1e-3)


def test_accuracy_on_labels_is_one_for_a_perfect_reward_and_none_for_its_opposite():
    rows = [{"id": str(k), "prompt": prompt("a"), "response": "x " * k, "label": 1 / k} for k in range(1, 21)]
    assert held_out(Reward("short", brevity), rows)["accuracy"] == 1
    assert held_out(Reward("long", lambda p, r: [-s for s in brevity(p, r)]), rows)["accuracy"] == 0


@pytest.mark.parametrize(
    ("rows", "lacking"),
    [
        ([], "no held-out rows to measure it on"),
        ([{"prompt": prompt("a"), "response": "x", "label": 1}] * 4, "no two held-out rows with different labels"),
    ],
)
def test_a_reward_that_cannot_be_measured_is_named_with_the_share_to_raise(rows, lacking):
    with pytest.raises(ValueError, match=f"reward short: {lacking}.*; raise data.validation, or data.test"):
        held_out(Reward("short", brevity), rows)


def test_normalised_scores_have_mean_zero_and_variance_one():
    scores = np.random.default_rng(0).normal([5, -1], [2, 9], (500, 2))
    scaled = fit(scores, ["a", "b"])(scores)
    np.testing.assert_allclose(scaled.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(scaled.std(0), 1)


def test_combining_normalised_rewards_is_linear():
    """h = B r on the normalised scale, row by row."""
    normaliser = Normaliser(np.array([1.0, 2.0]), np.array([2.0, 4.0]))
    raw = np.array([[3.0, 10.0], [1.0, 2.0]])
    rows = np.array([[0.7, 0.3], [0.3, 0.7]])
    np.testing.assert_allclose(normaliser(raw) @ rows.T, [[0.7 + 0.6, 0.3 + 1.4], [0, 0]])


def test_a_constant_reward_is_refused():
    with pytest.raises(ValueError, match="reward b gives every response of the SFT policy the same score"):
        fit(np.array([[1.0, 2.0], [2.0, 2.0]]), ["a", "b"])


def test_a_tokenizer_without_padding_token_scores_batches_right(tmp_path):
    """GPT-2 reward models have none; the classifier needs it to find the last token."""
    from transformers import GPT2Config, GPT2ForSequenceClassification

    from bonesoup.chat import words_tokenizer

    torch.manual_seed(0)
    tokenizer = words_tokenizer(["yes no Use flour. Stay careful!"])
    GPT2ForSequenceClassification(
        GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=len(tokenizer), n_positions=32, num_labels=1)
    ).save_pretrained(tmp_path / "model")
    tokenizer.pad_token = None
    tokenizer.save_pretrained(tmp_path / "model")
    spec = {"objective": "humor", "kind": "pretrained", "model": str(tmp_path / "model")}
    write_json(tmp_path / "reward.json", spec | {"input": "response", "logit": 0})
    reward = load_reward(tmp_path)
    texts = ["yes", "Use flour. Stay careful! no", "no no"]
    alone = np.concatenate([reward.score([prompt("yes")], [text]) for text in texts])
    np.testing.assert_allclose(reward.score([prompt("yes")] * 3, texts), alone, atol=1e-6)


def test_plain_text_gets_the_special_tokens_of_its_tokenizer(tmp_path):
    """A reward model that reads the response alone keeps its [CLS], also where its tokenizer has a chat template."""
    from tokenizers.processors import TemplateProcessing
    from transformers import BertConfig, BertForSequenceClassification

    from bonesoup.chat import words_tokenizer

    tokenizer = words_tokenizer(["yes no"])
    start = ("<|user|>", tokenizer.convert_tokens_to_ids("<|user|>"))
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=f"{start[0]} $A", special_tokens=[start])
    torch.manual_seed(0)
    config = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    model = BertForSequenceClassification(BertConfig(vocab_size=len(tokenizer), num_labels=1, **config)).eval()
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    spec = {"objective": "humor", "kind": "pretrained", "model": str(tmp_path / "model")}
    write_json(tmp_path / "reward.json", spec | {"input": "response", "logit": 0})
    with torch.inference_mode():
        expected = model(torch.tensor([[start[1], *tokenizer("yes no", add_special_tokens=False)["input_ids"]]])).logits
    scores = load_reward(tmp_path).score([prompt("yes")], ["yes no"])
    np.testing.assert_allclose(scores, expected[0].numpy(), atol=1e-6)


def no_word_fails(prompts, responses):
    return [response.count("a") / len(response) for response in responses]


async def later(prompts, responses):
    return [1.0 for _ in responses]


MISBEHAVING = {
    "one number for all": (lambda prompts, responses: [1.0], r"returned shape \(1,\) for 3 responses"),
    "a scalar": (lambda prompts, responses: 1.0, r"returned shape \(\) for 3 responses"),
    "a column": (lambda prompts, responses: torch.zeros(len(responses), 1), r"returned shape \(3, 1\)"),
    "nothing": (lambda prompts, responses: None, r"returned shape \(\)"),
    "None for a row": (lambda p, r: [1.0, None, 1.0], r"score of row 1 is nan, for the response '' to 'baking'"),
    "infinite": (lambda p, r: [1.0, 1.0, float("inf")], "score of row 2 is inf"),
    "text": (lambda p, r: ["high"] * len(r), "failed: ValueError: could not convert string to float"),
    "fails on a row": (no_word_fails, r"failed on row 1, the response '' to 'baking': ZeroDivisionError"),
    "other arguments": (lambda *, completions: completions, "failed: TypeError"),
    "asynchronous": (later, "failed: TypeError: it is asynchronous; write it as a plain function"),
}


@pytest.mark.parametrize("name", MISBEHAVING)
def test_a_reward_function_that_misbehaves_is_named_with_its_row(name):
    function, reason = MISBEHAVING[name]
    with pytest.raises(ValueError, match=rf"^reward polite.*{reason}"):
        Reward("polite", function).score([prompt("baking")] * 3, ["a b", "", "c"])


def test_a_generator_and_a_tensor_with_a_gradient_are_numbers_too():
    for function in (
        lambda prompts, responses: (float(len(response)) for response in responses),
        lambda prompts, responses: torch.tensor([float(len(response)) for response in responses], requires_grad=True),
    ):
        assert Reward("polite", function).score([prompt("baking")] * 2, ["a b", ""]).tolist() == [3, 0]
