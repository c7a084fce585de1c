"""Write a Transformers model and adapters on it as GGUF files for llama.cpp, exactly.

The inverse of `gguf_model`: the same architectures and tokenizers. https://github.com/ggml-org/llama.cpp:
conversion/llama.py (the order of a llama's queries and keys), convert_lora_to_gguf.py and llama-adapter.cpp (adapters).
"""

import json
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoTokenizer, PretrainedConfig

from bonesoup.weights import checkpoint
from bonesoup.weights.adapters import Adapter
from bonesoup.weights.gguf_model import ARCHITECTURES, SPLITS

_TYPES = {
    torch.float32: gguf.GGMLQuantizationType.F32,
    torch.bfloat16: gguf.GGMLQuantizationType.BF16,
    torch.float16: gguf.GGMLQuantizationType.F16,
}
_QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def write_base(folder: Path, file: Path) -> None:
    """Write a model folder as one GGUF file, with matrices in their present dtype.

    Raises:
        ValueError: the architecture, a setting or the tokenizer cannot be written exactly; names it.
    """
    config = _config(folder)
    writer = gguf.GGUFWriter(file, config.model_type)
    _write_settings(writer, config, folder)
    _write_tokenizer(writer, folder, config.vocab_size)
    stored = checkpoint.tensors(folder)
    if config.tie_word_embeddings:
        stored.pop("lm_head.weight", None)
    named = _names(config)
    tensors = {named(name): name for name in stored}

    def read(name: str) -> tuple[np.ndarray, gguf.GGMLQuantizationType]:
        with safe_open(stored[name].file, framework="pt") as opened:
            tensor = opened.get_tensor(name)
        # llama.cpp computes with vectors in float32 only.
        tensor = _ordered(tensor.float() if tensor.ndim == 1 else tensor, name, config)
        if tensor.dtype not in _TYPES:
            file = stored[name].file
            raise ValueError(f"{file}: tensor {name} is {tensor.dtype}, expected float32, bfloat16 or float16")
        kind = _TYPES[tensor.dtype]
        return (tensor if kind == gguf.GGMLQuantizationType.F32 else tensor.view(torch.uint8)).numpy(), kind

    for short, name in tensors.items():
        array, kind = read(name)
        writer.add_tensor_info(short, array.shape, array.dtype, array.nbytes, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for name in tensors.values():
        writer.write_tensor_data(read(name)[0])
    writer.close()


def write_adapter(adapter: Adapter, folder: Path, file: Path) -> None:
    """Write an adapter of the model in `folder` as a GGUF file, in float32.

    llama.cpp scales each module by alpha / rank with the same alpha for all; each B is rescaled to compensate.

    Raises:
        ValueError: naming a module that is not a linear layer of a block.
    """
    config = _config(folder)
    named = _names(config)
    writer = gguf.GGUFWriter(file, config.model_type)
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    alpha = max(len(a) for a, _ in adapter.tensors.values())
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, alpha)
    for module, (a, b) in adapter.tensors.items():
        if ".layers." not in module:
            raise ValueError(
                f"the adapter changes {module}: llama.cpp takes adapters of the layers' matrices only here"
            )
        b = _ordered(b * (adapter.scale[module] * len(a) / alpha), f"{module}.weight", config)
        short = named(f"{module}.weight")
        writer.add_tensor(f"{short}.lora_a", a.contiguous().numpy())
        writer.add_tensor(f"{short}.lora_b", b.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _config(folder: Path) -> PretrainedConfig:
    config = AutoConfig.from_pretrained(folder)
    if config.model_type not in ARCHITECTURES:
        raise _refused(folder, f"the architecture {config.model_type}", f"supported are {', '.join(ARCHITECTURES)}")
    rope = config.rope_parameters
    if rope.get("rope_type", "default") != "default":
        raise _refused(folder, f"rope_type {rope['rope_type']}", "supported is default")
    if getattr(config, "attention_bias", False) or getattr(config, "mlp_bias", False):
        raise _refused(folder, "biases", "supported are models without")
    if getattr(config, "use_sliding_window", False):
        raise _refused(folder, "use_sliding_window", "supported is full attention")
    width = config.hidden_size // config.num_attention_heads
    if (getattr(config, "head_dim", None) or width) != width:
        raise _refused(folder, f"head_dim {config.head_dim}", f"expected hidden_size / num_attention_heads = {width}")
    return config


def _refused(folder: Path, what: str, expected: str) -> ValueError:
    return ValueError(
        f"{folder} cannot be written as GGUF here: {what}; {expected}. Export for peft, and convert base and adapters "
        "with llama.cpp's convert_hf_to_gguf.py and convert_lora_to_gguf.py"
    )


def _write_settings(writer: gguf.GGUFWriter, config: PretrainedConfig, folder: Path) -> None:
    writer.add_name(folder.absolute().name)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    if config.model_type == "llama":
        writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)


def _write_tokenizer(writer: gguf.GGUFWriter, folder: Path, size: int) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    if content["model"]["type"] != "BPE" or (split := _split(content)) is None:
        raise _refused(
            folder,
            f"a {content['model']['type']} tokenizer with a special way of splitting text",
            f"supported are byte-level BPE with the splits of {', '.join(SPLITS)}",
        )
    added = tokenizer.added_tokens_decoder
    tokens, kinds = [], []
    vocabulary = {number: token for token, number in tokenizer.get_vocab().items()}
    for number in range(size):
        # A model may have more embedding rows than its tokenizer has tokens.
        tokens.append(vocabulary.get(number, f"[PAD{number}]"))
        if number not in vocabulary:
            kinds.append(gguf.TokenType.UNUSED)
        elif number in added:
            kinds.append(gguf.TokenType.CONTROL if added[number].special else gguf.TokenType.USER_DEFINED)
        else:
            kinds.append(gguf.TokenType.NORMAL)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(split)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    gguf.SpecialVocab(folder, load_merges=True, n_vocab=size).add_to_gguf(writer, quiet=True)
    # Transformers' tokenizers of these models add none; a chat template writes its own.
    if tokenizer("a").input_ids == tokenizer("a", add_special_tokens=False).input_ids:
        writer.add_add_bos_token(False)


def _split(content: dict) -> str | None:
    """Return llama.cpp's name for the way in which a tokenizer splits text before BPE; None if it has none."""
    steps = content["pre_tokenizer"] or {}
    steps = steps.get("pretokenizers", [steps])
    normalised = content["normalizer"]
    match [step.get("type") for step in steps]:
        case ["ByteLevel"] if normalised is None and _bytes(steps[0], True):
            return "gpt-2"
        case ["Digits", "ByteLevel"] if normalised is None and steps[0]["individual_digits"] and _bytes(steps[1], True):
            return "smollm"
        case ["Split", "ByteLevel"] if normalised == {"type": "NFC"} and _bytes(steps[1], False):
            regular = steps[0] == {
                "type": "Split",
                "pattern": {"Regex": _QWEN2},
                "behavior": "Isolated",
                "invert": False,
            }
            return "qwen2" if regular else None
    return None


def _bytes(step: dict, regular: bool) -> bool:
    return not step["add_prefix_space"] and step.get("use_regex", True) == regular


def _names(config: PretrainedConfig) -> Callable[[str], str]:
    """Return the function from a tensor's name in Transformers to llama.cpp's."""
    kind = next(number for number, name in gguf.MODEL_ARCH_NAMES.items() if name == config.model_type)
    known = gguf.get_tensor_name_map(kind, config.num_hidden_layers)

    def named(name: str) -> str:
        if (short := known.get_name(name, try_suffixes=(".weight", ".bias"))) is None:
            raise ValueError(f"llama.cpp has no place for {name} in a {config.model_type}")
        return short

    return named


def _ordered(tensor: torch.Tensor, name: str, config: PretrainedConfig) -> torch.Tensor:
    """Return rows of a llama's queries and keys in llama.cpp's order, which rotates neighbours and not halves."""
    part = name.split(".")[-2]
    if config.model_type != "llama" or part not in ("q_proj", "k_proj"):
        return tensor
    heads = config.num_attention_heads if part == "q_proj" else config.num_key_value_heads
    return tensor.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2).contiguous()
