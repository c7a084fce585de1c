"""A Transformers folder as files: which tensor lies in which safetensors file, and what else belongs."""

import shutil
from pathlib import Path

from safetensors import SafetensorError, safe_open

from bonesoup.files import read_json

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"

# The rest is small and carried over: tokenizer, chat template, generation settings, code.
_WEIGHTS = {".safetensors", ".bin", ".pt", ".pth", ".h5", ".msgpack", ".gguf", ".onnx"}
_FOLDERS = {"additional_chat_templates"}


def read_config(folder: Path) -> dict:
    """config.json of a model folder.

    Raises:
        ValueError: no such file or not JSON, or the weights are quantised.
    """
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise ValueError(f"{path} does not exist: not the folder of a Transformers model")
    try:
        config = read_json(path)
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if "quantization_config" in config:
        raise ValueError(f"{path}: the model is quantised; merge into its unquantised weights")
    return config


def shards(folder: Path) -> dict[str, list[str]]:
    """{file name: the tensors in it}, read from the files' headers.

    Raises:
        ValueError: no safetensors weights, a file of the index is missing, truncated or lacks a tensor.
    """
    folder = Path(folder)
    if (folder / SINGLE).is_file():
        names, listed = [SINGLE], {}
    elif (folder / INDEX).is_file():
        listed = read_json(folder / INDEX)["weight_map"]
        names = sorted(set(listed.values()))
    else:
        raise ValueError(
            f"{folder} has neither {SINGLE} nor {INDEX}; save the model as safetensors first "
            "(model.save_pretrained does)"
        )
    found = {}
    for name in names:
        if not (folder / name).is_file():
            raise ValueError(f"{folder / name} does not exist, {INDEX} names it")
        try:
            with safe_open(folder / name, framework="pt") as file:
                found[name] = list(file.keys())
        except SafetensorError as error:
            raise ValueError(f"{folder / name} cannot be read, it may be truncated: {error}") from None
    if missing := [key for key, name in listed.items() if key not in found[name]]:
        raise ValueError(f"{folder / listed[missing[0]]} lacks tensor {missing[0]}, {INDEX} says it is there")
    return found


def carry_over(folder: Path, out: Path) -> None:
    """Copy what is not weights: settings, tokenizer, chat templates, code; not the base's model card."""
    for path in Path(folder).iterdir():
        if path.is_dir() and path.name in _FOLDERS:
            shutil.copytree(path, out / path.name)
        elif path.is_file() and path.suffix not in _WEIGHTS and path.name not in (INDEX, "README.md"):
            shutil.copyfile(path, out / path.name)
