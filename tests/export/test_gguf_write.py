"""GGUF files of models and adapters, read back: the model and the sums are those of the Transformers folder."""

import gguf
import numpy as np
import pytest
import torch
from exported import write_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from bonesoup.chat import words_tokenizer
from bonesoup.weights import mix
from bonesoup.weights.fold import fold
from bonesoup.weights.gguf_model import convert
from bonesoup.weights.gguf_write import write_adapter, write_base

TEXTS = ["In 2024, I can't pay 1234.", "What?  Two spaces\n\nand lines.", "<|im_start|>user\nüber<|im_end|>"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(("architecture", "split"), [("llama", "smollm"), ("llama", "gpt-2"), ("qwen2", "gpt-2")])
def test_a_model_comes_back_as_it_was(tmp_path, architecture, split, dtype):
    made, _ = write_model(tmp_path / "model", architecture, split)
    made.to(dtype).save_pretrained(tmp_path / "model")
    write_base(tmp_path / "model", tmp_path / "model.gguf")
    back, words = convert(tmp_path / "model.gguf", dtype)
    expected = made.state_dict()
    assert back.state_dict().keys() == expected.keys()
    for name, tensor in back.state_dict().items():
        assert torch.equal(tensor, expected[name]), name
    for name in ("rms_norm_eps", "rope_parameters", "max_position_embeddings", "num_key_value_heads"):
        assert getattr(back.config, name) == pytest.approx(getattr(made.config, name)), name
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    for text in TEXTS:
        assert words(text).input_ids == tokenizer(text).input_ids
    assert words.chat_template == tokenizer.chat_template
    assert words.eos_token == tokenizer.eos_token


def summed(base, adapter, scale: float) -> dict[str, np.ndarray]:
    """Sum the tensors of a GGUF base and an adapter, as llama.cpp does: alpha over the rank of each module."""
    read = gguf.GGUFReader(adapter)
    assert read.fields["general.type"].contents() == "adapter"
    assert read.fields["adapter.type"].contents() == "lora"
    alpha = read.fields["adapter.lora.alpha"].contents()
    factors = {tensor.name: tensor.data.astype(np.float64) for tensor in read.tensors}
    tensors = {tensor.name: tensor.data.astype(np.float64) for tensor in gguf.GGUFReader(base).tensors}
    for name in {name.rpartition(".")[0] for name in factors}:
        a, b = factors[f"{name}.lora_a"], factors[f"{name}.lora_b"]
        tensors[name] = tensors[name] + scale * alpha / len(a) * b @ a
    return tensors


@pytest.mark.parametrize("scale", [1.0, -0.6, 1.7])
def test_an_adapter_adds_what_folding_adds(mixed, tmp_path, scale):
    """Ranks differ by module, and the rows of queries and keys are in another order there."""
    adapter = mix(mixed / "base", {name: mixed / name for name in ("calm", "bold")}, {"calm": 0.5, "bold": -2.0})
    write_base(mixed / "base", tmp_path / "base.gguf")
    write_adapter(adapter, mixed / "base", tmp_path / "adapter.gguf")
    scaled = mix(mixed / "base", {n: mixed / n for n in ("calm", "bold")}, {"calm": 0.5 * scale, "bold": -2.0 * scale})
    fold(mixed / "base", scaled, tmp_path / "folded")
    write_base(tmp_path / "folded", tmp_path / "folded.gguf")
    expected = {tensor.name: tensor.data for tensor in gguf.GGUFReader(tmp_path / "folded.gguf").tensors}
    for name, tensor in summed(tmp_path / "base.gguf", tmp_path / "adapter.gguf", scale).items():
        np.testing.assert_allclose(tensor, expected[name], atol=2e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "gpt2"}, "architecture gpt2; supported are llama, qwen2"),
        ({"attention_bias": True}, "biases; supported are models without"),
        ({"head_dim": 24}, "head_dim 24; expected hidden_size / num_attention_heads = 16"),
        ({"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}, "rope_type linear"),
    ],
)
def test_a_base_that_would_not_come_out_exactly_is_refused_by_name(mixed, tmp_path, changes, message):
    model = AutoModelForCausalLM.from_pretrained(mixed / "base")
    for name, value in changes.items():
        setattr(model.config, name, value)
    model.config.save_pretrained(tmp_path)
    if "model_type" in changes:
        text = (tmp_path / "config.json").read_text()
        (tmp_path / "config.json").write_text(text.replace('"model_type": "llama"', '"model_type": "gpt2"'))
    with pytest.raises(ValueError, match=f"cannot be written as GGUF here: .*{message}"):
        write_base(tmp_path, tmp_path / "out.gguf")


def test_a_tokenizer_of_words_is_refused(tmp_path):
    write_model(tmp_path / "model", "llama")
    words_tokenizer(["one", "two"]).save_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match="a WordLevel tokenizer"):
        write_base(tmp_path / "model", tmp_path / "out.gguf")


def test_an_adapter_on_the_embeddings_is_refused(mixed, tmp_path):
    adapter = mix(mixed / "base", {"odd": mixed / "odd"}, {"odd": 1.0})
    strange = type(adapter)(adapter.config, {"lm_head": next(iter(adapter.tensors.values()))}, {"lm_head": 1.0})
    with pytest.raises(ValueError, match="changes lm_head"):
        write_adapter(strange, mixed / "base", tmp_path / "out.gguf")
