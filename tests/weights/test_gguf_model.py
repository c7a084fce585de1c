"""GGUF files come out as the model they were made from; anything that would not is refused by name."""

import gguf
import gguf_files
import numpy as np
import pytest
import torch
from tokenizers import pre_tokenizers

from bonesoup.weights.gguf_model import convert

Q = gguf.GGMLQuantizationType
BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False)
DIGITS = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), BYTES])
TEXTS = ["In 2024, I can't pay 1234.", "What?  Two spaces\n\nand lines.", "über <|im_end|> 数"]


@pytest.fixture(scope="module")
def words() -> tuple[list[str], list[str]]:
    return gguf_files.tokenizer(BYTES)[:2]


@pytest.mark.parametrize("kind", [Q.F32, Q.F16, Q.Q8_0, Q.Q4_1], ids=lambda kind: kind.name)
@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_logits_are_those_of_the_original(tmp_path, words, architecture, kind):
    vocabulary, merges = words
    original = gguf_files.model(architecture, len(vocabulary))
    held = gguf_files.write(tmp_path / "m.gguf", original, vocabulary, merges, "gpt-2", kind)
    original.load_state_dict(held)
    converted, _ = convert(tmp_path / "m.gguf", torch.float32)
    ids = torch.arange(40).reshape(2, 20)
    with torch.no_grad():
        torch.testing.assert_close(converted.eval()(ids).logits, original(ids).logits, atol=1e-5, rtol=1e-5)
    converted.save_pretrained(tmp_path / "saved")  # not marked as quantised, which cannot be saved
    assert (
        converted.get_output_embeddings().weight.data_ptr() == converted.get_input_embeddings().weight.data_ptr()
        or (architecture == "qwen2")
    )


@pytest.mark.parametrize(("name", "split"), [("gpt-2", BYTES), ("smollm", DIGITS)])
def test_text_is_split_as_the_original_splits_it(tmp_path, name, split):
    vocabulary, merges, original = gguf_files.tokenizer(split)
    gguf_files.write(tmp_path / "m.gguf", gguf_files.model("llama", len(vocabulary)), vocabulary, merges, name)
    _, tokenizer = convert(tmp_path / "m.gguf", torch.float32)
    for text in TEXTS:
        assert tokenizer(text, add_special_tokens=False)["input_ids"] == original.encode(text).ids
    assert tokenizer.chat_template == gguf_files.TEMPLATE
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|im_end|>")


def test_the_single_digits_of_smollm_are_not_gpt2s():
    """Show what the split is for: without it the same merges give other tokens."""
    vocabulary, merges, _ = gguf_files.tokenizer(BYTES)
    assert any("12" in token for token in vocabulary)
    assert len(DIGITS.pre_tokenize_str("1234")) == 4 > len(BYTES.pre_tokenize_str("1234"))


REFUSED = {
    "a setting Transformers would drop": (
        {"more": {"rope.scaling.factor": 4.0}},
        r"setting llama\.rope\.scaling\.factor: Transformers would ignore it",
    ),
    "a tensor Transformers would drop": (
        {"extra": {"rope_freqs.weight": np.ones(8, np.float32)}},
        r"no place for rope_freqs\.weight",
    ),
    "a tensor that is missing": (
        {"without": ("model.layers.1.mlp.up_proj.weight",)},
        r"lacks model\.layers\.1\.mlp\.up_proj\.weight: it is not a whole model",
    ),
    "an architecture": ({"architecture": "mamba"}, r"architecture mamba: supported are llama, qwen2"),
    "a split of text": ({"split": "deepseek-llm"}, r"tokenizer gpt2 with the split deepseek-llm: supported are gpt2"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_not_come_out_exactly_is_refused_by_name(tmp_path, words, name):
    changes, reason = REFUSED[name]
    vocabulary, merges = words
    values = {"split": "gpt-2"} | changes
    gguf_files.write(tmp_path / "m.gguf", gguf_files.model("llama", len(vocabulary)), vocabulary, merges, **values)
    with pytest.raises(ValueError, match=reason):
        convert(tmp_path / "m.gguf", torch.float32)


def test_a_quantisation_without_a_rule_is_refused_by_name(tmp_path, words, monkeypatch):
    vocabulary, merges = words
    gguf_files.write(
        tmp_path / "m.gguf", gguf_files.model("llama", len(vocabulary)), vocabulary, merges, "gpt-2", Q.Q4_1
    )
    monkeypatch.delitem(gguf.quants._type_traits, Q.Q4_1)
    with pytest.raises(ValueError, match=r"quantisation Q4_1 of blk\.\d\.\w+\.weight: no rule"):
        convert(tmp_path / "m.gguf", torch.float32)


def test_a_damaged_or_missing_file_is_named(tmp_path):
    (tmp_path / "m.gguf").write_bytes(b"GGUF but not really")
    with pytest.raises(ValueError, match=r"m\.gguf is no GGUF file that can be read"):
        convert(tmp_path / "m.gguf", torch.float32)
    with pytest.raises(ValueError, match=r"none\.gguf: no such file"):
        convert(tmp_path / "none.gguf", torch.float32)
