"""GGUF files of tiny models, written as llama.cpp's converter writes them."""

from pathlib import Path

import gguf
import numpy as np
import torch
import transformers
from hub_models import TEXTS
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
# llama.cpp's names, and whether it permutes the rows of a llama's queries and keys.
NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def tokenizer(split) -> tuple[list[str], list[str], Tokenizer]:
    """Train a byte-level BPE that splits text by `split` first; return vocabulary, merges and tokenizer."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = split
    trainer = trainers.BpeTrainer(
        vocab_size=448,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator([*TEXTS, "In 2024, 2024 people paid 1234 and 1234."] * 2, trainer)
    vocabulary = sorted(made.get_vocab(), key=made.get_vocab().get)
    merges = [" ".join(pair) for pair in _merges(made)]
    return vocabulary, merges, made


def _merges(made: Tokenizer) -> list:
    import json

    return json.loads(made.to_str())["model"]["merges"]


def model(architecture: str, vocabulary: int, hidden_size: int = 64) -> transformers.PreTrainedModel:
    shape = {
        "vocab_size": vocabulary,
        "hidden_size": hidden_size,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": architecture == "llama",
        "rope_parameters": {"rope_type": "default", "rope_theta": 50000.0},
    }
    kind = {"llama": transformers.LlamaConfig, "qwen2": transformers.Qwen2Config}[architecture]
    torch.manual_seed(0)
    made = transformers.AutoModelForCausalLM.from_config(kind(**shape)).eval()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, mean=float(parameter.ndim == 1), std=0.2)
    made.tie_weights()
    return made


def write(
    file: Path,
    made: transformers.PreTrainedModel,
    vocabulary: list[str],
    merges: list[str],
    split: str,
    quantise: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32,
    more: dict[str, float] | None = None,
    extra: dict[str, np.ndarray] | None = None,
    without: tuple[str, ...] = (),
    architecture: str | None = None,
) -> dict[str, torch.Tensor]:
    """Write a model; return its state dict as the file holds it, quantised matrices dequantised.

    Args:
        quantise: the matrices of the layers.
        more: settings of the model beyond the usual.
        extra, without: tensors that are added, or left out.
    """
    config = made.config
    architecture = architecture or config.model_type
    writer = gguf.GGUFWriter(file, architecture)
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(len(vocabulary))
    if config.model_type == "llama":
        writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    for key, value in (more or {}).items():
        writer.add_float32(f"{architecture}.{key}", value)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(split)
    writer.add_token_list(vocabulary)
    writer.add_token_types([3 if token in SPECIAL else 1 for token in vocabulary])
    writer.add_token_merges(merges)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_chat_template(TEMPLATE)
    held = {}
    for name, value in made.state_dict().items():
        held[name] = value
        if name == "lm_head.weight" and config.tie_word_embeddings:
            held[name] = held["model.embed_tokens.weight"]
            continue
        array = value.numpy()
        kind = quantise if "layers" in name and array.ndim == 2 else gguf.GGMLQuantizationType.F32
        if config.model_type == "llama" and ("q_proj" in name or "k_proj" in name):
            array = _permuted(array, config.num_attention_heads if "q_proj" in name else config.num_key_value_heads)
        stored = gguf.quants.quantize(array, kind)
        if kind != gguf.GGMLQuantizationType.F32:
            back = gguf.quants.dequantize(stored, kind)
            if config.model_type == "llama" and ("q_proj" in name or "k_proj" in name):
                heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
                back = back.reshape(heads, -1, 2, back.shape[1]).swapaxes(1, 2).reshape(back.shape)
            held[name] = torch.from_numpy(back.copy())
        if name not in without:
            writer.add_tensor(_renamed(name), stored, raw_dtype=kind)
    for name, array in (extra or {}).items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return held


def _permuted(array: np.ndarray, heads: int) -> np.ndarray:
    """Reorder rows as convert_hf_to_gguf.py's LlamaModel.permute does."""
    return array.reshape(heads, 2, array.shape[0] // heads // 2, *array.shape[1:]).swapaxes(1, 2).reshape(array.shape)


def _renamed(name: str) -> str:
    stem, _, ending = name.rpartition(".")
    if stem.startswith("model.layers."):
        _, _, layer, inner = stem.split(".", 3)
        return f"blk.{layer}.{NAMES[inner]}.{ending}"
    return f"{NAMES[stem]}.{ending}"
