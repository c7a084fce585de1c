"""Fold an adapter into its base model: a plain Transformers folder that needs no PEFT.

Works on the files, with a piece of a tensor in memory at a time. The architecture is built without weights, to see
which modules are transposed (Conv1D, embeddings) and which weights are tied.
"""

from collections.abc import Collection
from functools import partial
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers import AutoConfig, PreTrainedModel

from bonesoup.files import appearing, write_json
from bonesoup.weights import checkpoint, stream
from bonesoup.weights.adapters import TRANSPOSED, Adapter, fitted
from bonesoup.weights.arithmetic import FLOATS, check_range, copied, decode, encode, refuse_strange
from bonesoup.weights.tensors import ITEM, Stored


def fold(base_folder: Path, adapter: Adapter, out: Path) -> None:
    """Write base weights + the adapter's deltas as a model folder, whole or not at all.

    Sums are taken in float32 and stored in the base's dtype. If the adapter changes a head or embeddings that are
    tied to each other, the two are untied: only one of them changes, as when the adapter runs on the base.

    Args:
        base_folder: a local Transformers folder with safetensors weights.
        adapter: its modules are those of the base architecture.
        out: tokenizer, generation settings and the like are copied into it.

    Raises:
        ValueError: a module is not in the base, has a different kind or shape, or has no weights (names it); or the
            base is quantised, truncated or not in safetensors, or has NaN or infinity in the module.
    """
    base_folder = Path(base_folder)
    files = checkpoint.shards(base_folder)
    config = checkpoint.read_config(base_folder)
    model = skeleton(base_folder)
    adapter = fitted(model, adapter, "the adapter", str(base_folder))
    present = {key: tensor for tensors in files.values() for key, tensor in tensors.items()}
    targets: dict[str, str] = {}  # tensor to change -> module
    untied: dict[str, tuple[str, str]] = {}  # tensor to read -> (tensor to add, module)
    copies: dict[str, str] = {}  # changed tensor -> its tied twin, which is not stored and keeps the old values
    for module in adapter.tensors:
        key = f"{module}.weight"
        tied_to = model.all_tied_weights_keys.get(key)
        if name := stored_name(key, present, model.base_model_prefix):
            targets[name] = module
            for twin in [other for other, source in model.all_tied_weights_keys.items() if source == key]:
                if stored_name(twin, present, model.base_model_prefix) is None:
                    copies[name] = twin
                config["tie_word_embeddings"] = False
        elif tied_to and (source := stored_name(tied_to, present, model.base_model_prefix)):
            untied[source] = (key, module)
        else:
            raise ValueError(f"{base_folder} has no tensor {key}, which the adapter changes")
        if tied_to:
            config["tie_word_embeddings"] = False
    for key in [*targets, *untied]:
        if present[key].dtype not in FLOATS:
            raise ValueError(f"tensor {key} in {present[key].file} is {present[key].dtype}: nothing can be added to it")

    def changed(tensor: Stored, name: str, module: str) -> stream.Output:
        a, b = adapter.tensors[module]
        b = b * adapter.scale[module]
        transposed = isinstance(model.get_submodule(module), TRANSPOSED)
        left, right = (a.T, b.T) if transposed else (b, a)
        return stream.Output(tensor.dtype, tensor.shape, partial(_add, tensor, name, left, right))

    outputs: dict[str, dict[str, stream.Output]] = {}
    for file_name, tensors in files.items():
        outputs[file_name] = shard = {}
        for key, tensor in tensors.items():
            if key in untied:
                new, module = untied[key]
                shard[new] = changed(tensor, new, module)
            # A head on changed embeddings that changes too is in `untied`.
            if key in copies and copies[key] not in shard:
                shard[copies[key]] = stream.Output(tensor.dtype, tensor.shape, partial(copied, tensor))
            if key in targets:
                shard[key] = changed(tensor, key, targets[key])
            else:
                shard[key] = stream.Output(tensor.dtype, tensor.shape, partial(copied, tensor))
    with appearing(Path(out)) as temporary:
        temporary.mkdir()
        checkpoint.carry_over(base_folder, temporary)
        write_json(temporary / checkpoint.CONFIG, config)
        stream.write(temporary, outputs)
        stream.write_index(temporary, outputs)


def _add(tensor: Stored, name: str, left: torch.Tensor, right: torch.Tensor, start: int, out: np.ndarray) -> None:
    """Write elements of weight + left @ right from `start` on into `out`, multiplying only their rows."""
    width = tensor.shape[1]
    raw = np.empty(len(out), np.uint8)
    values = np.empty(len(out) // ITEM[tensor.dtype], np.float32)
    copied(tensor, start, raw)
    decode(raw, tensor.dtype, values)
    refuse_strange(name, tensor, values, start)
    first, last = start // width, -(-(start + len(values)) // width)
    rows = (left[first:last] @ right).reshape(-1)
    values += rows[start - first * width :][: len(values)].numpy()
    if wrong := check_range(values, tensor.dtype):
        raise ValueError(f"tensor {name}: the sum is {wrong}")
    encode(values, tensor.dtype, out)


def skeleton(folder: Path) -> PreTrainedModel:
    """Build the architecture of a model folder on the meta device: modules and shapes, no weights.

    Raises:
        ValueError: see `checkpoint.read_config`, or an architecture that Transformers does not know.
    """
    names = checkpoint.read_config(folder).get("architectures") or []
    kind = getattr(transformers, names[0], None) if len(names) == 1 else None
    if kind is None:
        raise ValueError(f"{folder / 'config.json'}: architectures is {names}, expected one known to Transformers")
    with torch.device("meta"):
        return kind(AutoConfig.from_pretrained(folder))


def stored_name(key: str, present: Collection[str], prefix: str) -> str | None:
    """Return the name of a weight in the files; checkpoints of the bare body lack the body's prefix."""
    return next((name for name in (key, key.removeprefix(f"{prefix}.")) if name in present), None)
