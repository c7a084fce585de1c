"""Somebody else's model: read from safetensors, or from a pickle that the settings name; never code.

A pickle can run anything when it is read. torch's weights-only loader reads tensors and refuses the rest.
"""

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase


def load_model(kind: Any, source: str | Path, revision: str | None = None, convert_bin: bool = False, **options) -> Any:
    """What `from_pretrained` of a Transformers auto class returns.

    Args:
        kind: AutoModelForCausalLM, AutoModelForSequenceClassification.
        source: Hub id or folder.
        convert_bin: where there are no safetensors, take pytorch_model.bin.
        options: of `from_pretrained`.

    Raises:
        ValueError: no safetensors and `convert_bin` is off, a pickle that holds more than weights, a model that
            brings its own code, or nothing that can be read.
    """
    try:
        return kind.from_pretrained(
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


def load_tokenizer(source: str | Path, revision: str | None = None) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(source, revision=revision, trust_remote_code=False)
