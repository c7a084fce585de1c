"""Mix named LoRA adapters on their base model with any weights, exactly."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open

from bonesoup.method.preferences import adapter_faults
from bonesoup.weights import checkpoint
from bonesoup.weights.adapter_files import check_copies, load
from bonesoup.weights.adapters import Adapter, concatenate, fitted
from bonesoup.weights.fold import skeleton, stored_name


def mix(base: str | Path, adapters: Mapping[str, str | Path], weights: Mapping[str, float]) -> Adapter:
    """Return the sum of weight * adapter as one adapter of `base`.

    `bonesoup.weights.save` writes it as a PEFT folder, `bonesoup.weights.compress` lowers its rank, and
    `bonesoup.weights.fold.fold` adds it to the base. Example:

        mix("models/llama", {"calm": "adapters/calm", "bold": "adapters/bold"}, {"calm": 1.4, "bold": -0.4})

    Args:
        base: folder of a Transformers model with safetensors weights.
        adapters: {name: folder of a LoRA adapter}; ranks, scales and modules may differ.
        weights: {name: any real number}, one for each adapter.

    Raises:
        ValueError: a name with only an adapter or only a weight, a weight that is not finite, an adapter that is
            more than plain LoRA (see `adapter_files.load`) or that does not fit the base.
    """
    if faults := adapter_faults(dict(weights), adapters):
        raise ValueError("; ".join(faults))
    if missing := sorted(adapters.keys() - weights.keys()):
        raise ValueError(f"adapter {missing[0]} has no weight; 0 leaves it out")
    on_base = read_on(Path(base), adapters)
    return concatenate([(adapter, float(weights[name])) for name, adapter in on_base.items()])


def read_on(base: Path, adapters: Mapping[str, str | Path]) -> dict[str, Adapter]:
    """Read adapters and check them against the files of their base.

    Raises:
        ValueError: naming the adapter and the module or tensor, see `mix`.
    """
    model = skeleton(base)
    stored = checkpoint.tensors(base)

    def weight(name: str) -> torch.Tensor | None:
        for candidate in (name, model.all_tied_weights_keys.get(name)):
            if candidate and (key := stored_name(candidate, stored, model.base_model_prefix)):
                with safe_open(stored[key].file, framework="pt") as file:
                    return file.get_tensor(key)
        return None

    checked = {}
    for name, folder in adapters.items():
        adapter = fitted(model, load(Path(folder)), f"adapter {name}", str(base))
        check_copies(adapter, weight, f"adapter {name}", str(base))
        checked[name] = adapter
    return checked
