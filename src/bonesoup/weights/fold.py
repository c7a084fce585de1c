"""Fold an adapter into its base model: a plain Transformers folder that needs no PEFT.

Works on the files, one shard in memory at a time. The architecture is built without weights, only to
learn which modules are transposed (Conv1D) and which weights are tied.
"""

from pathlib import Path

import torch
import transformers
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from bonesoup.files import appearing, read_json, write_json
from bonesoup.weights import checkpoint
from bonesoup.weights.adapters import Adapter


def fold(base_folder: Path, adapter: Adapter, out: Path) -> None:
    """Write base weights + the adapter's deltas as a model folder; it appears whole or not at all.

    Sums are taken in float32 and stored in the base's dtype. Where the adapter changes a head that is tied to
    the embeddings, the two are untied: the embeddings stay as they were, as when the adapter runs apart.

    Args:
        base_folder: a local Transformers folder with safetensors weights.
        adapter: its modules name those of the base architecture.
        out: tokenizer, generation settings and the like are carried over into it.

    Raises:
        ValueError: naming the module: not in the base, not a linear layer, of another shape, or without
            weights; or a base that is quantised, truncated or not in safetensors.
    """
    base_folder = Path(base_folder)
    files = checkpoint.shards(base_folder)
    config = checkpoint.read_config(base_folder)
    model = _skeleton(base_folder, config)
    present = {key for keys in files.values() for key in keys}
    targets: dict[str, str] = {}  # tensor to change -> module
    untied: dict[str, tuple[str, str]] = {}  # tensor to read -> (tensor to add, module)
    for module in adapter.tensors:
        _check_module(model, module, adapter, base_folder)
        key = f"{module}.weight"
        tied_to = model.all_tied_weights_keys.get(key)
        if name := _stored(key, present, model.base_model_prefix):
            targets[name] = module
        elif tied_to and (source := _stored(tied_to, present, model.base_model_prefix)):
            untied[source] = (key, module)
        else:
            raise ValueError(f"{base_folder} has no tensor {key}, which the adapter changes")
        if tied_to:
            config["tie_word_embeddings"] = False

    def changed(tensor: torch.Tensor, module: str) -> torch.Tensor:
        delta = adapter.delta(module)
        if isinstance(model.get_submodule(module), Conv1D):
            delta = delta.T
        return (tensor.float() + delta).to(tensor.dtype).contiguous()

    with appearing(Path(out)) as temporary:
        temporary.mkdir()
        checkpoint.carry_over(base_folder, temporary)
        write_json(temporary / "config.json", config)
        added = {}
        for file_name, keys in files.items():
            with safe_open(base_folder / file_name, framework="pt") as file:
                metadata = file.metadata()
                shard = {key: file.get_tensor(key) for key in keys}
            for key in keys:
                if key in untied:
                    new, module = untied[key]
                    shard[new] = changed(shard[key], module)
                    added[new] = file_name
                if key in targets:
                    shard[key] = changed(shard[key], targets[key])
            save_file(shard, temporary / file_name, metadata=metadata)
        if checkpoint.SINGLE not in files:
            index = read_json(base_folder / checkpoint.INDEX)
            index["weight_map"] |= added
            write_json(temporary / checkpoint.INDEX, index)


def _skeleton(folder: Path, config: dict) -> PreTrainedModel:
    """The base architecture on the meta device: modules and shapes, no weights."""
    names = config.get("architectures") or []
    kind = getattr(transformers, names[0], None) if len(names) == 1 else None
    if kind is None:
        raise ValueError(f"{folder / 'config.json'}: architectures is {names}, expected one known to Transformers")
    with torch.device("meta"):
        return kind(AutoConfig.from_pretrained(folder))


def _check_module(model: PreTrainedModel, module: str, adapter: Adapter, folder: Path) -> None:
    try:
        found = model.get_submodule(module)
    except AttributeError:
        raise ValueError(f"the adapter changes module {module}, which {folder} does not have") from None
    if not isinstance(found, torch.nn.Linear | Conv1D):
        raise ValueError(f"the adapter changes module {module}, a {type(found).__name__}: expected a linear layer")
    shape = list(found.weight.shape)
    a, b = adapter.tensors[module]
    delta = [len(b), a.shape[1]]
    if shape != (delta[::-1] if isinstance(found, Conv1D) else delta):
        raise ValueError(
            f"module {module}: the adapter adds [out, in] = {delta}, the weight in {folder} is {shape}; "
            "the adapter belongs to another base model"
        )


def _stored(key: str, present: set[str], prefix: str) -> str | None:
    """The name of a weight in the files; checkpoints of the bare body lack the body's prefix."""
    return next((name for name in (key, key.removeprefix(f"{prefix}.")) if name in present), None)
