"""Load a model or tokenizer from safetensors, or from a pickle that the settings allow; never run its code.

A pickle can run anything when it is read. torch's weights-only loader reads tensors and refuses the rest.
"""

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase


def load_model(kind: Any, source: str | Path, revision: str | None = None, convert_bin: bool = False, **options) -> Any:
    """Load a model by `from_pretrained` of a Transformers auto class, with a faster head (`fold_head`).

    Args:
        kind: AutoModelForCausalLM, AutoModelForSequenceClassification.
        source: Hub id or folder.
        convert_bin: read pytorch_model.bin if there are no safetensors.
        options: passed on to `from_pretrained`.

    Raises:
        ValueError: there are no safetensors and `convert_bin` is off, the pickle holds more than weights, the model
            brings code, or nothing can be read.
    """
    try:
        loaded = kind.from_pretrained(
            source,
            revision=revision,
            use_safetensors=None if convert_bin else True,
            trust_remote_code=False,
            **options,
        )
    except UnpicklingError as error:
        raise ValueError(f"{source}: its pickle holds more than weights, and was not read: {error}") from None
    except OSError as error:
        hint = "" if convert_bin else "; weights in a pickle (pytorch_model.bin) need `convert_bin: true`"
        raise ValueError(f"{source} cannot be read as safetensors: {error}{hint}") from error
    fold_head(loaded[0] if isinstance(loaded, tuple) else loaded)
    return loaded


def load_tokenizer(source: str | Path, revision: str | None = None, **options) -> PreTrainedTokenizerBase:
    """Load a tokenizer by `AutoTokenizer.from_pretrained`; refuse one that brings code."""
    return AutoTokenizer.from_pretrained(source, revision=revision, trust_remote_code=False, **options)


def fold_head(model: PreTrainedModel) -> None:
    """Give a model's head contiguous hidden states, so that it is multiplied once a batch and not once a row.

    `logits_to_keep` slices the hidden states [row, position, feature] by position, and torch folds rows and
    positions into one matrix product only if they are contiguous or the weight is trained. With a frozen head of
    49,152 words that is ten times slower and more (bench/head.py). Values are equal, float rounding aside.
    """
    head = model.get_output_embeddings()
    if head is not None:
        head.register_forward_pre_hook(_contiguous)


def _contiguous(head: torch.nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
    return (inputs[0].contiguous(),)
