"""Whether an adapter fits a model: each of its modules is there, linear, and of the right shape."""

import torch
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from bonesoup.weights.adapters import Adapter


def check_module(model: PreTrainedModel, name: str, adapter: Adapter, who: str, base: str) -> None:
    """Refuse a module that the model does not have, or cannot take.

    Args:
        who, base: how the message names the adapter and the model.

    Raises:
        ValueError: naming the module: missing, no linear layer (Conv1D, its transpose, is one), or of another shape.
    """
    try:
        found = model.get_submodule(name)
    except AttributeError:
        raise ValueError(f"{who} changes module {name}, which {base} does not have") from None
    if not isinstance(found, torch.nn.Linear | Conv1D):
        raise ValueError(f"{who} changes module {name}, a {type(found).__name__}: expected a linear layer")
    a, b = adapter.tensors[name]
    delta, shape = [len(b), a.shape[1]], list(found.weight.shape)
    if shape != (delta[::-1] if isinstance(found, Conv1D) else delta):
        raise ValueError(
            f"module {name}: {who} adds [out, in] = {delta}, the weight in {base} is {shape}; "
            "the adapter belongs to another base model"
        )
