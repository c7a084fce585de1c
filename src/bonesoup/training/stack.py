"""LoRA adapters on one frozen base; consecutive blocks of rows pass through one adapter, or a mixture, each."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.nn.functional import linear
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from bonesoup.settings import schema
from bonesoup.weights.lora import lora_config

Factors = dict[str, tuple[nn.Parameter, nn.Parameter]]


@dataclass(frozen=True)
class Mixture:
    """The adapters that a block of rows passes through.

    Attributes:
        adapters: places in the stack.
        weights: [prompt, adapter], for blocks with the same number of consecutive rows for each prompt; None adds the
            adapters as they are.
    """

    adapters: Sequence[int]
    weights: Sequence[Sequence[float]] | None = None


class AdapterStack:
    """Adapters attached to one model in place.

    Attributes:
        factors: per adapter and module of the base, A [rank, in] and B [out, rank] in float32.
        config: PEFT's settings of every adapter, with the names of its modules.
    """

    def __init__(self, model: PreTrainedModel, lora: schema.Lora, adapters: int, seed: int):
        """Freeze the model and attach adapters. All start from the same A, drawn by PEFT from `seed`, and B = 0."""
        state = torch.get_rng_state()
        torch.manual_seed(seed)
        tuned = get_peft_model(model, lora_config(lora, "CAUSAL_LM", model))
        torch.set_rng_state(state)
        self.config: LoraConfig = tuned.peft_config["default"]
        adapted = {
            name: (module.lora_A["default"].weight.detach(), module.lora_B["default"].weight.detach())
            for name, module in tuned.base_model.model.named_modules()
            if hasattr(module, "lora_A")
        }
        self.model: PreTrainedModel = tuned.unload().requires_grad_(False)
        self.factors: list[Factors] = [
            {
                name: (nn.Parameter(a.float().clone()), nn.Parameter(b.float().clone()))
                for name, (a, b) in sorted(adapted.items())
            }
            for _ in range(adapters)
        ]
        self._layers = self._attach(self.config.lora_alpha / self.config.r)

    def _attach(self, scale: float) -> list["_Linear"]:
        """Wrap every linear module, those without an adapter too: their rows have to be split into blocks as well."""
        layers = []
        for name, module in list(self.model.base_model.named_modules()):
            if isinstance(module, nn.Linear | Conv1D):
                full = f"{self.model.base_model_prefix}.{name}"
                layer = _Linear(module, [factors.get(full) for factors in self.factors], scale)
                parent, _, child = full.rpartition(".")
                setattr(self.model.get_submodule(parent), child, layer)
                layers.append(layer)
        return layers

    def to_device(self) -> list[Factors]:
        """Move the factors to where the model is by now, and return them."""
        for factors in self.factors:
            for pair in factors.values():
                for factor in pair:
                    factor.data = factor.data.to(self.model.device)
        return self.factors

    @contextmanager
    def using(self, blocks: Sequence[Mixture]) -> Iterator[None]:
        """Pass equal consecutive blocks of rows through these mixtures; outside of it rows pass the base alone."""
        for layer in self._layers:
            layer.use(blocks)
        try:
            yield
        finally:
            for layer in self._layers:
                layer.use(())


# An adapter's A, its B times the scale, and weights [prompt, 1] or none.
_Part = tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]


class _Linear(nn.Module):
    """A linear layer of the base, with the factors of the adapters that are in use: y = W x + scale * weight * B A x.

    On the CPU each block of rows is multiplied separately. A matrix product rounds by its number of rows, so one
    product for all would make a policy's tokens depend on the policies in the same batch. On a GPU that costs more
    launches than it is worth: there all blocks share one product with W and two batched thin ones.
    """

    def __init__(self, layer: nn.Module, factors: list[tuple[nn.Parameter, nn.Parameter] | None], scale: float):
        super().__init__()
        self.layer = layer
        self._factors, self._scale = factors, scale
        self._used: list[list[_Part]] = []
        self._joined: tuple[torch.Tensor, torch.Tensor] | None = None

    @property
    def weight(self) -> nn.Parameter:
        """Return the base layer's weight, from which some architectures read the dtype."""
        return self.layer.weight

    def use(self, blocks: Sequence[Mixture]) -> None:
        self._used = [self._parts(block) for block in blocks]
        self._joined = None
        single = all(block.weights is None and len(block.adapters) == 1 for block in blocks)
        if len(blocks) > 1 and single and all(self._used) and self.layer.weight.is_cuda:
            a, b, _ = zip(*(parts[0] for parts in self._used), strict=True)
            self._joined = torch.stack(a), torch.stack(b)

    def _parts(self, block: Mixture) -> list[_Part]:
        like = self.layer.weight
        columns = [None] * len(block.adapters)
        if block.weights is not None:
            columns = torch.tensor(block.weights, dtype=like.dtype, device=like.device).T.unsqueeze(-1)
        chosen = zip((self._factors[place] for place in block.adapters), columns, strict=True)
        return [
            (pair[0].to(like.dtype), (pair[1] * self._scale).to(like.dtype), column) for pair, column in chosen if pair
        ]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(self._used) <= 1:
            return self._through(x, self._used[0] if self._used else [])
        if not x.is_cuda or self._joined is None and any(self._used):
            pairs = zip(x.chunk(len(self._used)), self._used, strict=True)
            return torch.cat([self._through(block, parts) for block, parts in pairs])
        out = self.layer(x)
        if self._joined is None:
            return out
        a, b = self._joined
        rows = x.reshape(len(a), -1, x.shape[-1])
        return out.add_(torch.bmm(torch.bmm(rows, a.mT), b.mT).view_as(out))

    def _through(self, x: torch.Tensor, parts: list[_Part]) -> torch.Tensor:
        out = self.layer(x)
        for a, b, weights in parts:
            inner = linear(x, a)
            if weights is not None:
                each = weights.repeat_interleave(len(x) // len(weights), 0)
                inner = inner * each.view(-1, *[1] * (x.dim() - 1))
            out = out.add_(linear(inner, b))
        return out
