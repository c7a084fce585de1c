"""Merge whole checkpoints: sum c_j m_j, or base + sum c_j (m_j - base), streamed from disk to disk."""

import math
import os
import shlex
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import bonesoup
from bonesoup.files import digest, write_json
from bonesoup.locks import exclusive
from bonesoup.weights import card, checkpoint, compatibility, stream
from bonesoup.weights.arithmetic import FLOATS, copied, weighted_sum
from bonesoup.weights.tensors import Stored

SHARD_SIZE = 5 * 10**9
# How far the sum of the coefficients may be from 1 without `allow_sum`: the rounding of decimals.
SUM_TOLERANCE = 1e-6
_NOTES, _LOCK = "notes.jsonl", "lock"

Tensors = dict[str, Stored]


def merge(
    models: Sequence[tuple[str | Path, float]],
    out: str | Path,
    base: str | Path | None = None,
    dtype: str | None = None,
    allow_sum: bool = False,
    shard_size: int = SHARD_SIZE,
    resume: bool = False,
    progress: stream.Progress | None = None,
) -> list[str]:
    """Write sum c_j m_j, or with a base base + sum c_j (m_j - base), as a Transformers folder.

    Sums are taken in float32 whatever the inputs are. The folder appears by rename when it is complete, with the
    first model's settings and tokenizer, a model card and a manifest of digests. A merge that was killed leaves a
    hidden folder next to `out`, which `resume` continues and any other merge to `out` replaces.

    Args:
        models: (Transformers folder, coefficient); coefficients are any real numbers.
        out: must not exist, or be empty.
        base: the model whose differences to the others are merged.
        dtype: float32, bfloat16 or float16; by default that of each tensor, if the inputs agree.
        allow_sum: without a base, coefficients need not sum to 1.
        shard_size: largest file of weights in bytes; a tensor is never cut.
        resume: keep what an interrupted run of the same merge has written, after checking it against its digest.
        progress: called with the bytes written so far and in all.

    Returns:
        The names of tensors that only some inputs have and the merge leaves out, see `compatibility.check_tensors`.

    Raises:
        ValueError: coefficients, inputs that do not fit each other, NaN or infinity in one (named when it is met),
            or an output that exists.
    """
    models = [(Path(path), float(coefficient)) for path, coefficient in models]
    base, out = Path(base) if base else None, Path(out)
    _check_request(models, out, base, dtype, allow_sum, shard_size)
    folders = list(dict.fromkeys([path for path, _ in models] + ([base] if base else [])))
    compatibility.check_configs(folders)
    compatibility.check_tokenizers(folders)
    tensors = {folder: checkpoint.tensors(folder) for folder in folders}
    names, left_out = compatibility.check_tensors(tensors)
    chosen = _dtypes(names, tensors, dtype)
    outputs = {name: _output(name, chosen[name], models, base, tensors) for name in names}
    files = _split(outputs, shard_size)
    with _partial(out, resume, _fingerprint(models, base, tensors, chosen, files)) as (folder, notes):
        weights = stream.write(folder, files, notes, progress)
        stream.write_index(folder, files)
        checkpoint.carry_over(models[0][0], folder)
        stored = sorted({FLOATS[chosen[name]] for name in names if chosen[name] in FLOATS})
        _write_config(folder, checkpoint.read_config(models[0][0]), stored)
        card.write_card(folder, models, base, stored, left_out, _command(models, out, base, dtype, allow_sum))
        card.write_manifest(folder, models, base, weights)
    return left_out


def _check_request(
    models: list[tuple[Path, float]], out: Path, base: Path | None, dtype: str | None, allow_sum: bool, shard_size: int
) -> None:
    if not models:
        raise ValueError("a merge needs at least one model")
    for path, coefficient in models:
        if not math.isfinite(coefficient):
            raise ValueError(f"the coefficient of {path} is {coefficient}: every coefficient must be finite")
    total = math.fsum(coefficient for _, coefficient in models)
    if base is None and not allow_sum and abs(total - 1) > SUM_TOLERANCE:
        raise ValueError(
            f"the coefficients sum to {total:.9g}, which scales the model itself: without a base they must sum to 1; "
            "name the base, or allow it (--allow-sum)"
        )
    if dtype is not None and dtype not in FLOATS.values():
        raise ValueError(f"dtype is {dtype!r}, expected one of {', '.join(FLOATS.values())}")
    if shard_size < 1:
        raise ValueError(f"the shard size is {shard_size} bytes, expected a positive number")
    for path in [*(path for path, _ in models), *([base] if base else [])]:
        if path.resolve() == out.resolve():
            raise ValueError(f"{out} is an input and the output: choose another folder for the output")
    if out.is_symlink() or out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ValueError(f"{out} exists already: choose another folder, or remove it")


def _dtypes(names: list[str], tensors: dict[Path, Tensors], dtype: str | None) -> dict[str, str]:
    """Return {tensor: dtype to store}: the requested one, or the inputs' common one."""
    code = {name: code for code, name in FLOATS.items()}.get(dtype)
    chosen = {}
    for name in names:
        kinds = {listed[name].dtype: folder for folder, listed in tensors.items()}
        if code and next(iter(kinds)) in FLOATS:
            chosen[name] = code
        elif len(kinds) == 1:
            chosen[name] = next(iter(kinds))
        else:
            listed = ", ".join(f"{FLOATS[kind]} in {folder}" for kind, folder in kinds.items())
            raise ValueError(f"tensor {name} is {listed}: choose the dtype to write (--dtype)")
    return chosen


def _output(
    name: str, dtype: str, models: list[tuple[Path, float]], base: Path | None, tensors: dict[Path, Tensors]
) -> stream.Output:
    parts = [(tensors[path][name], coefficient) for path, coefficient in models]
    first = parts[0][0]
    if dtype in FLOATS:
        fill = partial(weighted_sum, name, parts, tensors[base][name] if base else None, dtype)
    else:
        fill = partial(copied, first)
    return stream.Output(dtype, first.shape, fill)


def _split(outputs: dict[str, stream.Output], limit: int) -> dict[str, dict[str, stream.Output]]:
    """Return {file name: tensors}, files of at most `limit` bytes, tensors in order."""
    groups: list[dict[str, stream.Output]] = [{}]
    size = 0
    for name, output in outputs.items():
        if groups[-1] and size + output.bytes > limit:
            groups.append({})
            size = 0
        groups[-1][name] = output
        size += output.bytes
    if len(groups) == 1:
        return {checkpoint.SINGLE: groups[0]}
    return {f"model-{i:05d}-of-{len(groups):05d}.safetensors": group for i, group in enumerate(groups, 1)}


def _fingerprint(
    models: list[tuple[Path, float]],
    base: Path | None,
    tensors: dict[Path, Tensors],
    dtypes: dict[str, str],
    files: dict[str, dict[str, stream.Output]],
) -> str:
    """Digest everything that decides the bytes: recipe, inputs by size and time of change, layout, version."""
    inputs = []
    for folder, listed in tensors.items():
        states = [(file, file.stat()) for file in sorted({tensor.file for tensor in listed.values()})]
        inputs.append([str(folder.resolve()), [[file.name, s.st_size, s.st_mtime_ns] for file, s in states]])
    recipe = [[str(path.resolve()), coefficient] for path, coefficient in models]
    layout = {name: list(listed) for name, listed in files.items()}
    return digest(bonesoup.__version__, recipe, base and str(base.resolve()), inputs, dtypes, layout)


@contextmanager
def _partial(out: Path, resume: bool, fingerprint: str) -> Iterator[tuple[Path, Path]]:
    """Yield a hidden folder next to `out` and the file of its progress; the folder becomes `out` at the end.

    It stays if the process is killed or the disk is full, and is removed if the merge is refused.
    """
    work = out.absolute().parent / f".{out.absolute().name}.merging"
    folder, begun = work / "model", work / "fingerprint.json"
    work.mkdir(parents=True, exist_ok=True)
    with exclusive(work / _LOCK, wait=0):
        if resume and begun.is_file():
            if begun.read_text() != fingerprint:
                raise ValueError(
                    f"{work} was begun with other models, coefficients or settings: it cannot be resumed; "
                    "without --resume it is replaced"
                )
        else:
            shutil.rmtree(folder, ignore_errors=True)
            (work / _NOTES).unlink(missing_ok=True)
        folder.mkdir(exist_ok=True)
        begun.write_text(fingerprint)
        try:
            yield folder, work / _NOTES
        except ValueError:
            shutil.rmtree(work)
            raise
        if out.is_dir():
            out.rmdir()
        os.replace(folder, out)
        shutil.rmtree(work)


def _write_config(folder: Path, config: dict, dtypes: list[str]) -> None:
    """Write config.json with the dtype of the weights, if they have a common one."""
    if len(dtypes) == 1:
        config = _with_dtype(config, dtypes[0])
        if "torch_dtype" not in config:
            config["dtype"] = dtypes[0]
    write_json(folder / checkpoint.CONFIG, config)


def _with_dtype(config: dict, dtype: str) -> dict:
    """Replace every dtype in the settings, those of parts (text_config) too."""
    return {
        key: dtype
        if key in ("dtype", "torch_dtype") and value is not None
        else _with_dtype(value, dtype)
        if isinstance(value, dict)
        else value
        for key, value in config.items()
    }


def _command(models: list[tuple[Path, float]], out: Path, base: Path | None, dtype: str | None, allow_sum: bool) -> str:
    words = ["bonesoup", "merge", *(f"--model={path}={coefficient!r}" for path, coefficient in models)]
    words += [f"--base={base}"] if base else []
    words += [f"--dtype={dtype}"] if dtype else []
    words += ["--allow-sum"] if allow_sum else []
    return shlex.join([*words, f"--out={out}"])
