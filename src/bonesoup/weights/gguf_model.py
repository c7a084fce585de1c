"""Convert a GGUF file to an ordinary Transformers model and tokenizer, or refuse what would not come out exactly.

Transformers does the reading. Left alone it drops tensors and settings that it does not know, and splits text as GPT-2
does if it does not know the tokenizer's rule; each of these is checked here.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from tokenizers import normalizers, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

if TYPE_CHECKING:
    from gguf import GGUFReader

# Architectures whose conversion tests/weights/test_gguf_model.py compares with the original, logit by logit.
ARCHITECTURES = ("llama", "qwen2")
# tokenizer.ggml.pre -> how the original tokenizer normalises and splits text before BPE.
# smollm: https://github.com/ggml-org/llama.cpp, llama-vocab.cpp, and the model's tokenizer.json: single digits.
# qwen2: transformers' Qwen2Tokenizer; its split is already set by Transformers.
SPLITS = {
    "gpt-2": (None, pre_tokenizers.ByteLevel(add_prefix_space=False)),
    "smollm": (
        None,
        pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        ),
    ),
    "qwen2": (normalizers.NFC(), None),
}


def convert(file: Path, dtype: torch.dtype) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Read model and tokenizer from a GGUF file, dequantised to `dtype`.

    Raises:
        ValueError: the file is damaged, or has an architecture, quantisation, tokenizer, tensor or setting that cannot
            be converted exactly; names it.
    """
    # Imported here: only GGUF files need it.
    from gguf import GGUFReader

    if not file.is_file():
        raise ValueError(f"{file}: no such file; correct model.source")
    try:
        reader = GGUFReader(file)
    except Exception as error:  # of struct, numpy and enum, for a damaged file
        raise ValueError(f"{file} is no GGUF file that can be read: {error}") from None
    if faults := _faults(reader):
        listing = "\n".join(f"  - {fault}" for fault in faults)
        raise ValueError(f"{file} cannot be converted exactly; use the unquantised model instead:\n{listing}")
    return _model(file, reader, dtype), _tokenizer(file, reader)


def _faults(reader: "GGUFReader") -> list[str]:
    """List everything about a GGUF file that Transformers would drop, guess or fail on."""
    from gguf.quants import dequantize
    from transformers.integrations.ggml import GGUF_CONFIG_MAPPING

    fields = reader.fields

    def text(key: str) -> str:
        return str(fields[key].contents()) if key in fields else "missing"

    faults = []
    architecture = text("general.architecture")
    if architecture not in ARCHITECTURES:
        return [f"architecture {architecture}: supported are {', '.join(ARCHITECTURES)}"]
    known = GGUF_CONFIG_MAPPING[architecture]
    for key in fields:
        prefix, _, setting = key.partition(".")
        if prefix == architecture and setting not in known:
            faults.append(f"setting {key}: Transformers would ignore it")
    if text("tokenizer.ggml.model") != "gpt2" or text("tokenizer.ggml.pre") not in SPLITS:
        faults.append(
            f"tokenizer {text('tokenizer.ggml.model')} with the split {text('tokenizer.ggml.pre')}: supported are "
            f"gpt2 with {', '.join(SPLITS)}"
        )
    first = {tensor.tensor_type: tensor for tensor in reader.tensors}
    for kind, tensor in first.items():
        try:
            dequantize(tensor.data[:1], kind)
        except NotImplementedError:
            faults.append(f"quantisation {kind.name} of {tensor.name}: no rule to dequantise it")
    return faults


def _model(file: Path, reader: "GGUFReader", dtype: torch.dtype) -> PreTrainedModel:
    from transformers.modeling_gguf_pytorch_utils import (
        TENSOR_PROCESSORS,
        TensorProcessor,
        get_gguf_hf_weights_map,
        load_gguf_checkpoint,
    )

    config = AutoConfig.from_pretrained(file.parent, gguf_file=file.name)
    model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    kind = TENSOR_PROCESSORS.get(config.model_type, TensorProcessor)
    known = get_gguf_hf_weights_map(model, kind(config=config.to_dict()))
    if dropped := sorted(tensor.name for tensor in reader.tensors if tensor.name not in known):
        raise ValueError(f"{file}: Transformers has no place for {', '.join(dropped[:5])}; use the unquantised model")
    tensors = load_gguf_checkpoint(str(file), return_tensors=True, model_to_load=model, torch_dtype=dtype)["tensors"]
    missing, _ = model.load_state_dict(tensors, strict=False)
    if missing := sorted(set(missing) - set(model.all_tied_weights_keys)):
        raise ValueError(f"{file} lacks {', '.join(missing[:5])}: it is not a whole model")
    model.tie_weights()
    return model


def _tokenizer(file: Path, reader: "GGUFReader") -> PreTrainedTokenizerBase:
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    normaliser, split = SPLITS[reader.fields["tokenizer.ggml.pre"].contents()]
    backend = tokenizer.backend_tokenizer
    if normaliser:
        backend.normalizer = normaliser
    if split:
        backend.pre_tokenizer = split
    return tokenizer
