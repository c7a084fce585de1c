"""Read tensors of safetensors files at their positions, without mapping files into memory.

The memory that a merge takes does not grow with the size of its models.
"""

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bonesoup.files import read_json

# Bytes of an element, by the dtype's name in safetensors.
ITEM = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 8),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("BF16", "F16", "I16", "U16"), 2),
    **dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 1),
}
# The limit of the format itself.
_LONGEST_HEADER = 100_000_000
_POINTER = b"version https://git-lfs.github.com/spec/"


@dataclass(frozen=True)
class Stored:
    """The place of a tensor.

    Attributes:
        file: a safetensors file.
        dtype: its name in safetensors, such as BF16.
        shape: in elements.
        position: of its first byte in the file.
    """

    file: Path
    dtype: str
    shape: tuple[int, ...]
    position: int

    @property
    def count(self) -> int:
        return math.prod(self.shape)


def read_header(path: Path) -> dict[str, Stored]:
    """Return {name: tensor} of a safetensors file, in the order of their bytes.

    Raises:
        ValueError: the file is a git-lfs pointer, truncated, damaged, or has a dtype that is not known here.
    """
    path = Path(path)
    refuse_pointer(path)
    size = path.stat().st_size
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, _LONGEST_HEADER):
            raise _broken(path, f"its header takes {length} bytes, the file {size}")
        text = file.read(length)
    try:
        header = json.loads(text)
        header.pop("__metadata__", None)
        spans = {name: _span(path, name, entry) for name, entry in header.items()}
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise _broken(path, f"its header is damaged: {error}") from None
    ordered = sorted(spans.items(), key=lambda item: item[1][2:])
    end = 0
    for name, (dtype, shape, begin, stop) in ordered:
        if begin != end or stop - begin != math.prod(shape) * ITEM[dtype]:
            raise _broken(path, f"tensor {name} {dtype} {list(shape)} lies at bytes {begin} to {stop}")
        end = stop
    if 8 + length + end != size:
        raise _broken(path, f"its tensors end at byte {8 + length + end}, the file at {size}")
    return {name: Stored(path, dtype, shape, 8 + length + begin) for name, (dtype, shape, begin, _) in ordered}


def refuse_pointer(path: Path) -> None:
    """Raise ValueError if a file is a git-lfs pointer: a clone without git-lfs has it in place of the content."""
    with open(path, "rb") as file:
        if file.read(len(_POINTER)) == _POINTER:
            raise ValueError(f"{path} is a git-lfs pointer, not the file itself: run `git lfs pull` in its repository")


def read_foreign_json(path: Path) -> Any:
    """Read JSON that another tool wrote.

    Raises:
        ValueError: the file is a git-lfs pointer, or not JSON.
    """
    refuse_pointer(path)
    try:
        return read_json(path)
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None


def _span(path: Path, name: str, entry: dict[str, Any]) -> tuple[str, tuple[int, ...], int, int]:
    dtype, shape, (begin, stop) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    if dtype not in ITEM:
        raise ValueError(f"tensor {name} has dtype {dtype}, which is not known here")
    if not all(isinstance(number, int) and number >= 0 for number in (*shape, begin, stop)):
        raise ValueError(f"tensor {name} has shape {shape} and bytes {begin} to {stop}")
    return dtype, shape, begin, stop


def _broken(path: Path, why: str) -> ValueError:
    return ValueError(f"{path} cannot be read, it may be truncated: {why}")


def read_into(descriptor: int, tensor: Stored, start: int, out: np.ndarray) -> None:
    """Read elements of a flattened tensor from `start` on into `out`, uint8, until it is full.

    Args:
        descriptor: of the open file `tensor.file`.
    """
    position = tensor.position + start * ITEM[tensor.dtype]
    view = memoryview(out)
    while view:
        read = os.preadv(descriptor, [view], position)
        if not read:
            raise RuntimeError(f"{tensor.file} became shorter while it was read")
        view = view[read:]
        position += read


def header(tensors: dict[str, tuple[str, tuple[int, ...]]]) -> bytes:
    """Return the first bytes of a safetensors file whose tensors, {name: (dtype, shape)}, follow in this order."""
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, (dtype, shape) in tensors.items():
        begin, end = end, end + math.prod(shape) * ITEM[dtype]
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
