"""LoRA adapters as plain tensors: summed exactly, compressed, checked against a model.

The sum of c_j * scale_j * B_j A_j is one adapter: the A's stacked, the B's side by side with c_j * scale_j in them. It
is exact for any real coefficients, and ranks, which may differ, add up. Averaging the A's and the B's separately gives
another matrix, with cross terms B_i A_j as large as the effect: nothing here does that.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

# Layers that store the transpose of [out, in]; an embedding is a linear layer on one-hot tokens.
TRANSPOSED = (Conv1D, torch.nn.Embedding)


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter in float32 on the CPU.

    Attributes:
        config: the content of adapter_config.json.
        tensors: {module of the base model: (A [rank, in], B [out, rank])}; ranks may differ. An embedding has A
            [rank, token] and B [feature, rank].
        scale: {module: factor}; the adapter adds scale * B A to the module's weight.
        embeddings: the modules that are embeddings.
        copies: {parameter of the base model: (file, tensor)}; weights of the base that the adapter's file holds too.
    """

    config: dict
    tensors: dict[str, tuple[torch.Tensor, torch.Tensor]]
    scale: dict[str, float]
    embeddings: frozenset[str] = frozenset()
    copies: dict[str, tuple[Path, str]] = field(default_factory=dict)

    def delta(self, module: str) -> torch.Tensor:
        """Return the weight added to a module: float32 [out, in], which `TRANSPOSED` layers store transposed."""
        a, b = self.tensors[module]
        return (b * self.scale[module]) @ a


def concatenate(parts: Sequence[tuple[Adapter, float]]) -> Adapter:
    """Return the adapter whose weights are the sum of coefficient * adapter, exactly.

    Coefficients and scales are folded into B in float32, so that the scale is 1 everywhere. A module that only some
    adapters change gets their terms alone.

    Raises:
        ValueError: no parts, a coefficient that is not finite, or adapters of different base models.
    """
    if not parts:
        raise ValueError("a soup needs at least one adapter")
    for index, (_, coefficient) in enumerate(parts):
        if not math.isfinite(coefficient):
            raise ValueError(f"coefficient {index} is {coefficient}: every coefficient must be finite")
    tensors = {}
    for module in dict.fromkeys(name for adapter, _ in parts for name in adapter.tensors):
        terms = [(adapter, float(c)) for adapter, c in parts if module in adapter.tensors]
        shapes = {(adapter.tensors[module][1].shape[0], adapter.tensors[module][0].shape[1]) for adapter, _ in terms}
        if len(shapes) > 1:
            raise ValueError(
                f"module {module} has weights of shapes {sorted(shapes)} in different adapters: "
                "they belong to different base models"
            )
        tensors[module] = (
            torch.cat([adapter.tensors[module][0] for adapter, _ in terms]),
            torch.cat([adapter.tensors[module][1] * (c * adapter.scale[module]) for adapter, c in terms], dim=1),
        )
    embeddings = frozenset().union(*(adapter.embeddings for adapter, _ in parts))
    return Adapter(parts[0][0].config, tensors, dict.fromkeys(tensors, 1.0), embeddings)


def compress(
    adapter: Adapter, rank: int | None = None, max_error: float | None = None
) -> tuple[Adapter, dict[str, float]]:
    """Return the closest adapter of a smaller rank, and its error.

    The singular values of B A are those of the small matrix R_b R_a^T, where B = Q_b R_b and A^T = Q_a R_a, so no
    weight-sized matrix is formed. Truncating them is the best approximation of its rank (Eckart and Young 1936).

    Args:
        rank: of every module; a module whose rank is not larger stays as it is.
        max_error: instead of a rank: every module gets the smallest rank whose error is at most this.

    Returns:
        The adapter, its scales 1; and {module: relative error}, |W' - W| / |W| in the Frobenius norm.

    Raises:
        ValueError: neither or both are given, or out of range.
    """
    if (rank is None) == (max_error is None):
        raise ValueError("give a rank or a largest error, and not both")
    if rank is not None and rank < 1:
        raise ValueError(f"the rank is {rank}, expected at least 1")
    if max_error is not None and not 0 <= max_error < 1:
        raise ValueError(f"the largest error is {max_error}, expected a number in [0, 1)")
    tensors, errors = {}, {}
    for module, (a, b) in adapter.tensors.items():
        scaled = b.double() * adapter.scale[module]
        left, small_left = torch.linalg.qr(scaled)
        right, small_right = torch.linalg.qr(a.double().T)
        u, values, v = torch.linalg.svd(small_left @ small_right.T)
        # The energy lost if the first k singular values are kept, k = 0, 1, ...
        energy = values.square()
        lost = torch.cat([energy.flip(0).cumsum(0).flip(0), energy.new_zeros(1)])
        error = (lost / lost[0]).sqrt() if lost[0] > 0 else torch.zeros_like(lost)
        kept = rank if max_error is None else max(int((error > max_error).sum()), 1)
        if kept >= len(a):
            tensors[module] = (a, scaled.float())
            errors[module] = 0.0
            continue
        kept = min(kept, len(values))
        # The singular values are shared between the factors, so that neither is too small for half precision.
        root = values[:kept].sqrt()
        tensors[module] = ((root[:, None] * v[:kept] @ right.T).float(), (left @ u[:, :kept] * root).float())
        errors[module] = float(error[kept])
    return Adapter(adapter.config, tensors, dict.fromkeys(tensors, 1.0), adapter.embeddings), errors


def fitted(model: PreTrainedModel, adapter: Adapter, who: str, base: str) -> Adapter:
    """Return the adapter with the names that its modules have in a model, which may be on the meta device.

    An adapter trained on the bare body lacks the body's prefix ("model."), and the other way round.

    Args:
        who, base: names of the adapter and the model in the message.

    Raises:
        ValueError: a module is missing, or has a different kind (Conv1D is a transposed linear layer) or shape; names
            it.
    """
    modules = dict(model.named_modules())
    prefix = f"{model.base_model_prefix}."

    def place(name: str) -> str:
        places = (name, prefix + name, name.removeprefix(prefix))
        return next((place for place in places if place in modules), name)

    places = {name: place(name) for name in adapter.tensors}
    for name, (a, b) in adapter.tensors.items():
        module = modules.get(places[name])
        if module is None:
            raise ValueError(f"{who} changes module {name}, which {base} does not have")
        embedding = name in adapter.embeddings
        if not isinstance(module, torch.nn.Embedding if embedding else (torch.nn.Linear, Conv1D)):
            expected = "an embedding" if embedding else "a linear layer"
            raise ValueError(f"{who} changes module {name}, a {type(module).__name__}: expected {expected}")
        delta, shape = [len(b), a.shape[1]], list(module.weight.shape)
        if shape != (delta[::-1] if isinstance(module, TRANSPOSED) else delta):
            raise ValueError(
                f"module {name}: {who} adds [out, in] = {delta}, the weight in {base} is {shape}; "
                "the adapter belongs to another base model"
            )
    return replace(
        adapter,
        tensors={places[name]: pair for name, pair in adapter.tensors.items()},
        scale={places[name]: scale for name, scale in adapter.scale.items()},
        embeddings=frozenset(places[name] for name in adapter.embeddings),
    )
