"""A Transformers folder as files: which tensor lies in which safetensors file, and what else belongs."""

import shutil
from pathlib import Path

from bonesoup.files import read_json, write_json
from bonesoup.weights.tensors import Stored, read_header

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
CONFIG, CARD, MANIFEST = "config.json", "README.md", "merge.json"

# The rest is small and carried over: tokenizer, chat template, generation settings, code.
_WEIGHTS = {".safetensors", ".bin", ".pt", ".pth", ".h5", ".msgpack", ".gguf", ".onnx"}
_FOLDERS = {"additional_chat_templates"}


def read_config(folder: Path) -> dict:
    """config.json of a model folder.

    Raises:
        ValueError: no such file or not JSON, or the weights are quantised.
    """
    path = Path(folder) / CONFIG
    if not path.is_file():
        adapter = path.with_name("adapter_config.json").is_file()
        hint = ", but of an adapter: merge it into its base first" if adapter else ""
        raise ValueError(f"{path} does not exist: not the folder of a Transformers model{hint}")
    try:
        config = read_json(path)
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(config, dict):
        raise ValueError(f"{path} is no JSON object")
    if config.get("quantization_config"):
        raise ValueError(
            f"{path}: the model is quantised, and sums of quantised weights mean nothing; merge the unquantised "
            "weights (float32, bfloat16 or float16) and quantise the result"
        )
    return config


def shards(folder: Path) -> dict[str, dict[str, Stored]]:
    """{file name: {tensor: where it lies}}, read from the files' headers.

    Raises:
        ValueError: no safetensors weights, a file of the index is missing, truncated or lacks a tensor, or a
            tensor lies in two files.
    """
    folder = Path(folder)
    if (folder / SINGLE).is_file():
        names, listed = [SINGLE], {}
    elif (folder / INDEX).is_file():
        listed = _weight_map(folder / INDEX)
        names = sorted(set(listed.values()))
    else:
        raise ValueError(
            f"{folder} has neither {SINGLE} nor {INDEX}; save the model as safetensors first "
            "(model.save_pretrained does)"
        )
    found, owner = {}, {}
    for name in names:
        if not (folder / name).is_file():
            raise ValueError(f"{folder / name} does not exist, {INDEX} names it")
        found[name] = read_header(folder / name)
        for key in found[name]:
            if key in owner:
                raise ValueError(f"tensor {key} lies in {folder / owner[key]} and in {folder / name}")
            owner[key] = name
    if missing := [key for key, name in listed.items() if key not in found[name]]:
        raise ValueError(f"{folder / listed[missing[0]]} lacks tensor {missing[0]}, {INDEX} says it is there")
    return found


def _weight_map(path: Path) -> dict[str, str]:
    try:
        listed = read_json(path)["weight_map"]
        strange = [name for name in listed.values() if Path(name).name != name]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no index of weights: {error!r}") from None
    if strange:
        raise ValueError(f"{path} names {strange[0]!r}, which is no file of its folder")
    return listed


def write_index(path: Path, files: dict[str, dict[str, int]]) -> None:
    """Write model.safetensors.index.json.

    Args:
        files: {file name: {tensor: bytes}}.
    """
    total = sum(size for tensors in files.values() for size in tensors.values())
    owner = {key: name for name, tensors in files.items() for key in tensors}
    write_json(path, {"metadata": {"total_size": total}, "weight_map": dict(sorted(owner.items()))})


def carry_over(folder: Path, out: Path) -> None:
    """Copy what is not weights: settings, tokenizer, chat templates, code; not the base's model card."""
    left = {INDEX, CARD, MANIFEST}
    for path in Path(folder).iterdir():
        if path.is_dir() and path.name in _FOLDERS:
            shutil.copytree(path, out / path.name, dirs_exist_ok=True)
        elif path.is_file() and path.suffix not in _WEIGHTS and path.name not in left:
            shutil.copyfile(path, out / path.name)
