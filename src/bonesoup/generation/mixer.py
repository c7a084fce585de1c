"""Low-rank policies on one base model, mixed per row: y = W x + sum_j lambda[row, j] s_j B_j A_j x.

Every adapted linear layer keeps the factors of all policies stacked, so that a mixture costs two thin products,
whatever the preferences in the batch; nothing is merged and no weight is touched. Where a whole batch wants one
mixture and is large, `Mixer.fold` adds it to the weights instead.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.functional import linear
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from bonesoup.weights.adapters import Adapter
from bonesoup.weights.modules import check_module


class Mixer:
    """The mixture that the steered layers of one model apply now; one thread at a time may use the model."""

    def __init__(self, model: PreTrainedModel, adapters: Sequence[Adapter]):
        """Attach adapters to a model in place.

        Policies j = 0, 1, ... are those of `adapters`; their ranks and target modules may differ.

        Raises:
            ValueError: naming the policy's place and module: not in the model, not linear, or of another shape.
        """
        self.policies = len(adapters)
        self.scales: dict[tuple[int, ...], torch.Tensor] = {}
        self.folded: torch.Tensor | None = None
        self.layers: list[Steered] = []
        for name in sorted({name for adapter in adapters for name in adapter.tensors}):
            own = {j: adapter for j, adapter in enumerate(adapters) if name in adapter.tensors}
            for j, adapter in own.items():
                check_module(model, name, adapter, f"policy {j}", "the base model")
            layer = Steered(model.get_submodule(name), name, own, self)
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, layer)
            self.layers.append(layer)

    def set(self, coefficients: torch.Tensor | None) -> None:
        """Mix per row from now on.

        Args:
            coefficients: lambda [row, policy], or [1, policy] for any number of rows; None is the base alone.
        """
        self._unfold()
        self.scales = {}
        if coefficients is None or not self.layers:
            return
        # Policies that no row uses are left out where they come last: a baseline beside costs nothing unasked.
        used = int(coefficients.any(0).nonzero().max()) + 1 if coefficients.any() else 0
        weight = self.layers[0].a
        coefficients = coefficients.to(weight.device, weight.dtype)
        for ranks in {layer.ranks for layer in self.layers}:
            if columns := [j for j, rank in enumerate(ranks[:used]) for _ in range(rank)]:
                self.scales[ranks] = coefficients[:, columns].unsqueeze(1)

    def fold(self, coefficients: torch.Tensor) -> None:
        """Add one mixture, lambda [policy], to the weights; `set` takes it out again, exactly.

        Needs the memory of the adapted weights once more while it lasts.
        """
        if self.folded is not None and torch.equal(self.folded, coefficients):
            return
        self.set(None)
        self.folded = coefficients.clone()
        for layer in self.layers:
            layer.fold(coefficients)

    def _unfold(self) -> None:
        if self.folded is not None:
            for layer in self.layers:
                layer.unfold()
            self.folded = None


class Steered(nn.Module):
    """A linear layer and the factors of every policy that adapts it.

    Attributes:
        ranks: of each policy, 0 where it leaves this layer alone.
        a: [sum of ranks, in], the A's stacked.
        b: [out, sum of ranks], the B's side by side, with each policy's scale s_j in them.
    """

    def __init__(self, layer: nn.Module, name: str, adapters: dict[int, Adapter], mixer: Mixer):
        super().__init__()
        self.layer = layer
        self.name = name
        self.mixer = mixer
        self.ranks = tuple(len(adapters[j].tensors[name][0]) if j in adapters else 0 for j in range(mixer.policies))
        weight = layer.weight
        a, b = zip(*(adapter.tensors[name] for adapter in adapters.values()), strict=True)
        scaled = [factor * adapter.scale[name] for factor, adapter in zip(b, adapters.values(), strict=True)]
        self.register_buffer("a", torch.cat(a).to(weight.device, weight.dtype), persistent=False)
        self.register_buffer("b", torch.cat(scaled, dim=1).to(weight.device, weight.dtype), persistent=False)
        self.plain = None

    @property
    def weight(self) -> nn.Parameter:
        """Some architectures look at the weight of a layer, for its dtype."""
        return self.layer.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.layer(x)
        scale = self.mixer.scales.get(self.ranks)
        if scale is None:
            return out
        if x.ndim != 3 or len(scale) not in (1, len(x)):
            raise RuntimeError(
                f"{self.name} was given {list(x.shape)} for {len(scale)} rows of coefficients: a layer that does not "
                "see [row, token, feature] cannot be mixed per row; merge the soup for one preference instead"
            )
        width = scale.shape[-1]
        mixed = linear(x, self.a[:width]).mul_(scale)
        return out.add_(linear(mixed, self.b[:, :width]))

    def fold(self, coefficients: torch.Tensor) -> None:
        self.plain = self.layer.weight
        column = coefficients.float().cpu().repeat_interleave(torch.tensor(self.ranks)).to(self.b.device)
        delta = (self.b.float() * column) @ self.a.float()
        if isinstance(self.layer, Conv1D):
            delta = delta.T
        # A weight of its own: the plain one may be tied to the embeddings.
        merged = (self.plain.detach().float() + delta).to(self.plain.dtype)
        self.layer.weight = nn.Parameter(merged, requires_grad=False)

    def unfold(self) -> None:
        self.layer.weight, self.plain = self.plain, None
