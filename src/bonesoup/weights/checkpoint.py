"""Read a Transformers folder as files: the place of every tensor, and the small files around the weights."""

import shutil
from pathlib import Path

from bonesoup.files import read_json
from bonesoup.weights.tensors import Stored, read_foreign_json, read_header

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
CONFIG, CARD, MANIFEST = "config.json", "README.md", "merge.json"

# Every other file is small and is copied: tokenizer, chat template, generation settings, code.
_WEIGHTS = {".safetensors", ".bin", ".pt", ".pth", ".h5", ".msgpack", ".gguf", ".onnx"}
_FOLDERS = {"additional_chat_templates"}


def read_config(folder: Path) -> dict:
    """Return config.json of a model folder.

    Raises:
        ValueError: no such file or not JSON, the weights are quantised, or an adapter lies next to them.
    """
    path = Path(folder) / CONFIG
    adapter = path.with_name("adapter_config.json")
    if adapter.is_file():
        if path.is_file() and any(path.with_name(name).is_file() for name in (SINGLE, INDEX)):
            raise ValueError(
                f"{adapter} lies next to a model's weights, and Transformers applies that adapter when it loads the "
                "folder: move the adapter's files to a separate folder, and merge them into the model with "
                "`bonesoup soup --base MODEL --adapter a=DIR --weight a=1 --full --out NEW` if they belong to it"
            )
        raise ValueError(
            f"{folder} is the folder of an adapter, not of a Transformers model: adapters are mixed on their base with "
            f"`bonesoup soup --base MODEL --adapter a={folder} --weight a=1 --out DIR` (--full for a whole model)"
        )
    if not path.is_file():
        raise ValueError(f"{path} does not exist: not the folder of a Transformers model")
    config = read_foreign_json(path)
    if not isinstance(config, dict):
        raise ValueError(f"{path} is not a JSON object")
    if config.get("quantization_config"):
        raise ValueError(
            f"{path}: the model is quantised, and sums of quantised weights mean nothing; merge the unquantised "
            "weights (float32, bfloat16 or float16) and quantise the result"
        )
    return config


def shards(folder: Path) -> dict[str, dict[str, Stored]]:
    """Return {file name: {tensor: its place}}, read from the files' headers.

    Raises:
        ValueError: no safetensors weights, a file of the index is missing, truncated or lacks a tensor, or a
            tensor is in two files.
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
    files, owner = {}, {}
    for name in names:
        if not (folder / name).is_file():
            raise ValueError(f"{folder / name} does not exist, but {INDEX} names it")
        files[name] = read_header(folder / name)
        for key in files[name]:
            if key in owner:
                raise ValueError(f"tensor {key} is both in {folder / owner[key]} and in {folder / name}")
            owner[key] = name
    if missing := [key for key, name in listed.items() if key not in files[name]]:
        raise ValueError(f"{folder / listed[missing[0]]} has no tensor {missing[0]}, which {INDEX} places there")
    return files


def tensors(folder: Path) -> dict[str, Stored]:
    """Return {tensor: its place} of all files together; errors are those of `shards`."""
    return {name: tensor for listed in shards(folder).values() for name, tensor in listed.items()}


def _weight_map(path: Path) -> dict[str, str]:
    try:
        listed = read_json(path)["weight_map"]
        strange = [name for name in listed.values() if Path(name).name != name]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not an index of weights: {error!r}") from None
    if strange:
        raise ValueError(f"{path} names {strange[0]!r}, expected a file name without a folder")
    return listed


def carry_over(folder: Path, out: Path) -> None:
    """Copy settings, tokenizer, chat templates and code: everything but weights and the model card."""
    excluded = {INDEX, CARD, MANIFEST}
    for path in Path(folder).iterdir():
        if path.is_dir() and path.name in _FOLDERS:
            shutil.copytree(path, out / path.name, dirs_exist_ok=True)
        elif path.is_file() and path.suffix not in _WEIGHTS and path.name not in excluded:
            shutil.copyfile(path, out / path.name)
