"""One chat template: training, rewards, sampling and TRL's own rendering see the same tokens."""

import pytest
from trl.data_utils import maybe_apply_chat_template

from bonesoup.chat import bpe_tokenizer, words_tokenizer
from bonesoup.generation.sample import encode
from bonesoup.rewards.score import render

TEXTS = ["Please explain baking", "Use flour. Stay careful!", "a  b\n c ünïcode"]
DIALOGUE = [
    {"role": "user", "content": "Please explain"},
    {"role": "assistant", "content": "baking"},
    {"role": "user", "content": "Please explain baking"},
]


@pytest.fixture(params=["words", "bpe"])
def tokenizer(request):
    return words_tokenizer(TEXTS) if request.param == "words" else bpe_tokenizer(TEXTS, 300)


def test_prompt_and_response_tokens_concatenate(tokenizer):
    """The rendered prompt is a token-level prefix of the whole, so that scored, trained and served tokens agree."""
    answer = "Use flour. Stay careful!"
    prompt = encode(tokenizer, [DIALOGUE])["input_ids"][0].tolist()
    whole = tokenizer(render(tokenizer, "chat", [DIALOGUE], [answer])[0], add_special_tokens=False)["input_ids"]
    response = tokenizer(answer, add_special_tokens=False)["input_ids"]
    assert whole == [*prompt, *response, tokenizer.eos_token_id]


def test_trl_renders_the_same_text(tokenizer):
    answer = "Use flour."
    rendered = maybe_apply_chat_template(
        {"prompt": DIALOGUE, "completion": [{"role": "assistant", "content": answer}]}, tokenizer
    )
    assert rendered["prompt"] + rendered["completion"] == render(tokenizer, "chat", [DIALOGUE], [answer])[0]


def test_template_survives_saving(tokenizer, tmp_path):
    from transformers import AutoTokenizer

    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert encode(again, [DIALOGUE])["input_ids"].tolist() == encode(tokenizer, [DIALOGUE])["input_ids"].tolist()
    assert again.padding_side == "left"


def test_bpe_keeps_any_text():
    tokenizer = bpe_tokenizer(TEXTS, 300)
    for text in [*TEXTS, "never seen: 数 \t <s>yes</s>"]:
        assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_unnamed_special_tokens_are_never_sampled_either():
    """Decoding drops them as it drops the named ones, for example the reserved tokens of large vocabularies."""
    from tokenizers import AddedToken

    from bonesoup.chat import never_sampled

    tokenizer = words_tokenizer(TEXTS)
    tokenizer.add_tokens([AddedToken("<|reserved|>", special=True)])
    token = tokenizer.convert_tokens_to_ids("<|reserved|>")
    assert tokenizer.decode([token], skip_special_tokens=True) == ""
    assert token in never_sampled(tokenizer)
    assert tokenizer.eos_token_id not in never_sampled(tokenizer)
