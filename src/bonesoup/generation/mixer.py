"""Mix low-rank policies on one base model per row: y = W x + sum_j lambda[row, j] s_j B_j A_j x.

Every adapted layer stacks the factors of all policies, so that any mixture costs two thin products whatever the
preferences in the batch; no weight is touched. For a large batch of one mixture, `Mixer.fold` adds it to the weights.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.functional import embedding, linear
from transformers import PreTrainedModel

from bonesoup.weights.adapter_files import check_copies
from bonesoup.weights.adapters import TRANSPOSED, Adapter, fitted

# Tokens up to which a thin product on a CPU is faster in float32: in bfloat16 starting it takes ten times as long.
FEW = 32


class Mixer:
    """The steered layers of a model and their current mixture. Not thread-safe."""

    def __init__(self, model: PreTrainedModel, adapters: Sequence[Adapter], names: Sequence[str] | None = None):
        """Attach adapters to a model in place.

        Args:
            adapters: policies j = 0, 1, ...; their ranks and target modules may differ.
            names: the policies' names, for messages.

        Raises:
            ValueError: naming the policy and a module that is not in the model, of another kind or of another shape,
                or weights of another base that the adapter's file holds.
        """
        names = names or [f"policy {j}" for j in range(len(adapters))]
        adapters = [
            fitted(model, adapter, name, "the base model") for name, adapter in zip(names, adapters, strict=True)
        ]
        parameters = dict(model.named_parameters(remove_duplicate=False))
        for name, adapter in zip(names, adapters, strict=True):
            check_copies(adapter, parameters.get, name, "the base model")
        self.policies = len(adapters)
        self.scales: dict[tuple[int, ...], torch.Tensor] = {}
        self.folded: torch.Tensor | None = None
        self.layers: list[Steered] = []
        for name in sorted({name for adapter in adapters for name in adapter.tensors}):
            adapters_here = {j: adapter for j, adapter in enumerate(adapters) if name in adapter.tensors}
            layer = Steered(model.get_submodule(name), name, adapters_here, self)
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, layer)
            self.layers.append(layer)

    def set(self, coefficients: torch.Tensor | None) -> None:
        """Set the mixture of every row from now on.

        Args:
            coefficients: lambda [row, policy], or [1, policy] for any number of rows; None is the base alone.
        """
        self._unfold()
        self.scales = {}
        if coefficients is None or not self.layers:
            return
        # Skip trailing policies that no row uses: those of a baseline cost nothing until it is requested.
        used = int(coefficients.any(0).nonzero().max()) + 1 if coefficients.any() else 0
        weight = self.layers[0].a
        coefficients = coefficients.to(weight.device, weight.dtype)
        for ranks in {layer.ranks for layer in self.layers}:
            if columns := [j for j, rank in enumerate(ranks[:used]) for _ in range(rank)]:
                self.scales[ranks] = coefficients[:, columns].unsqueeze(1)

    def fold(self, coefficients: torch.Tensor) -> None:
        """Add one mixture, lambda [policy], to the weights until the next `set`, which restores them exactly.

        Until then the adapted weights take twice their memory.
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
    """A linear layer or an embedding, and the factors of every policy that adapts it.

    Attributes:
        ranks: of each policy, 0 if it leaves this layer alone.
        a: [sum of ranks, in], the A's stacked; [token, sum of ranks] for an embedding.
        b: [out, sum of ranks], the B's side by side, each times its policy's scale s_j.
        exact: both in float32, for a model in half precision on the CPU; else None.
    """

    def __init__(self, layer: nn.Module, name: str, adapters: dict[int, Adapter], mixer: Mixer):
        super().__init__()
        self.layer = layer
        self.name = name
        self.mixer = mixer
        self.embeds = isinstance(layer, nn.Embedding)
        self.ranks = tuple(len(adapters[j].tensors[name][0]) if j in adapters else 0 for j in range(mixer.policies))
        weight = layer.weight
        a, b = zip(*(adapter.tensors[name] for adapter in adapters.values()), strict=True)
        scaled = [factor * adapter.scale[name] for factor, adapter in zip(b, adapters.values(), strict=True)]
        stacked = torch.cat(a).T.contiguous() if self.embeds else torch.cat(a)
        scaled = torch.cat(scaled, dim=1)
        self.register_buffer("a", stacked.to(weight.device, weight.dtype), persistent=False)
        self.register_buffer("b", scaled.to(weight.device, weight.dtype), persistent=False)
        self.exact = (stacked, scaled) if weight.device.type == "cpu" and weight.dtype != torch.float32 else None
        self.plain = None

    @property
    def weight(self) -> nn.Parameter:
        """Return the layer's weight, from which some architectures read the dtype."""
        return self.layer.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.layer(x)
        scale = self.mixer.scales.get(self.ranks)
        if scale is None:
            return out
        if out.ndim != 3 or len(scale) not in (1, len(out)):
            raise RuntimeError(
                f"{self.name} was given {list(x.shape)} for {len(scale)} rows of coefficients: a layer that does not "
                "see [row, token, feature] cannot be mixed per row; merge the soup for one preference instead"
            )
        width = scale.shape[-1]
        a, b = self.a, self.b
        if self.exact and out.shape[0] * out.shape[1] <= FEW:
            a, b = self.exact
            x = x if self.embeds else x.float()
            scale = scale.float()
        mixed = embedding(x, a[:, :width]) if self.embeds else linear(x, a[:width])
        return out.add_(linear(mixed.mul_(scale), b[:, :width]))

    def fold(self, coefficients: torch.Tensor) -> None:
        self.plain = self.layer.weight
        column = coefficients.float().cpu().repeat_interleave(torch.tensor(self.ranks)).to(self.b.device)
        delta = (self.b.float() * column) @ (self.a.T if self.embeds else self.a).float()
        if isinstance(self.layer, TRANSPOSED):
            delta = delta.T
        # A new parameter, since the original may be shared with tied embeddings or a tied head.
        merged = (self.plain.detach().float() + delta).to(self.plain.dtype)
        self.layer.weight = nn.Parameter(merged, requires_grad=False)

    def unfold(self) -> None:
        self.layer.weight, self.plain = self.plain, None
