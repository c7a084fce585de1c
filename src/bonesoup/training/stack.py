"""LoRA adapters of several policies on one frozen base; consecutive blocks of rows pass through one policy each."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.nn.functional import linear
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from bonesoup.settings import schema
from bonesoup.training.sft import lora_config

Factors = dict[str, tuple[nn.Parameter, nn.Parameter]]


class AdapterStack:
    """The adapters of several policies, attached to one model in place.

    Attributes:
        factors: per policy and module of the base, A [rank, in] and B [out, rank] in float32.
        config: PEFT's settings of every adapter, with the names of its modules.
    """

    def __init__(self, model: PreTrainedModel, lora: schema.Lora, policies: int, seed: int):
        """Freeze the model and attach adapters. All start from the same A, drawn by PEFT from `seed`, and B = 0."""
        state = torch.get_rng_state()
        torch.manual_seed(seed)
        tuned = get_peft_model(model, lora_config(lora, "CAUSAL_LM"))
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
            for _ in range(policies)
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
    def using(self, policies: Sequence[int]) -> Iterator[None]:
        """Pass equal consecutive blocks of rows through `policies`, in their order; no policies is the base alone."""
        for layer in self._layers:
            layer.use(policies)
        try:
            yield
        finally:
            for layer in self._layers:
                layer.use(())


class _Linear(nn.Module):
    """A linear layer of the base, with the factors of the policies that are in use: y = W x + scale * B A x.

    On the CPU each block of rows is multiplied separately. A matrix product rounds by its number of rows, so one
    product for all would make a policy's tokens depend on the policies in the same batch. On a GPU that costs more
    launches than it is worth: there all blocks share one product with W and two batched thin ones.
    """

    def __init__(self, layer: nn.Module, factors: list[tuple[nn.Parameter, nn.Parameter] | None], scale: float):
        super().__init__()
        self.layer = layer
        self._factors, self._scale = factors, scale
        self._used: list[tuple[torch.Tensor, torch.Tensor] | None] = []
        self._joined: tuple[torch.Tensor, torch.Tensor] | None = None

    @property
    def weight(self) -> nn.Parameter:
        """Return the base layer's weight, from which some architectures read the dtype."""
        return self.layer.weight

    def use(self, policies: Sequence[int]) -> None:
        dtype = self.layer.weight.dtype
        chosen = [self._factors[k] for k in policies]
        self._used = [pair and (pair[0].to(dtype), (pair[1] * self._scale).to(dtype)) for pair in chosen]
        self._joined = None
        if len(chosen) > 1 and all(chosen) and self.layer.weight.is_cuda:
            a, b = zip(*self._used, strict=True)
            self._joined = torch.stack(a), torch.stack(b)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(self._used) <= 1:
            return self._apply_one(x, self._used[0] if self._used else None)
        if not x.is_cuda:
            pairs = zip(x.chunk(len(self._used)), self._used, strict=True)
            return torch.cat([self._apply_one(block, pair) for block, pair in pairs])
        out = self.layer(x)
        if self._joined is None:
            return out
        a, b = self._joined
        rows = x.reshape(len(a), -1, x.shape[-1])
        return out.add_(torch.bmm(torch.bmm(rows, a.mT), b.mT).view_as(out))

    def _apply_one(self, x: torch.Tensor, pair: tuple[torch.Tensor, torch.Tensor] | None) -> torch.Tensor:
        out = self.layer(x)
        return out if pair is None else out.add_(linear(linear(x, pair[0]), pair[1]))
