"""Sum float32, bfloat16 and float16 tensors with weights, in float32, a block at a time.

NumPy only, so that a merge starts in a tenth of a second. NumPy has no bfloat16: it is the upper half of a float32;
rounding is to nearest, ties to even, as in torch.
"""

import os
import threading
from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np

from bonesoup.weights.tensors import ITEM, Stored, read_into

# {name in safetensors: name in torch}
FLOATS = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
# The smallest magnitude that rounds to infinity in the dtype.
_OVERFLOW = {"F32": np.inf, "BF16": float.fromhex("0x1.ffp127"), "F16": 65520.0}

# Elements of a block: few enough for a core's caches, enough that threads seldom wait for Python's lock.
BLOCK = 1 << 17


def decode(raw: np.ndarray, dtype: str, out: np.ndarray) -> None:
    """Convert bytes (uint8 [n * item]) to float32 [n] in `out`, exactly."""
    if dtype == "BF16":
        bits = out.view(np.uint32)
        bits[:] = raw.view(np.uint16)
        np.left_shift(bits, 16, out=bits)
    else:
        out[:] = raw.view(np.float32 if dtype == "F32" else np.float16)


def encode(values: np.ndarray, dtype: str, raw: np.ndarray, scratch: np.ndarray | None = None) -> None:
    """Round float32 [n], all finite, to nearest even into bytes (uint8 [n * item]); `values` is overwritten.

    Args:
        scratch: float32 [n] to work in.
    """
    if dtype == "BF16":
        bits = values.view(np.uint32)
        odd = np.right_shift(bits, 16, out=None if scratch is None else scratch.view(np.uint32))
        np.bitwise_and(odd, 1, out=odd)
        np.add(odd, 0x7FFF, out=odd)
        np.add(bits, odd, out=bits)
        np.right_shift(bits, 16, out=raw.view(np.uint16), casting="unsafe")
    else:
        raw.view(np.float32 if dtype == "F32" else np.float16)[:] = values


def check_range(values: np.ndarray, dtype: str) -> str | None:
    """Say why float32 values cannot be stored in `dtype`; None if they can."""
    low, high = float(values.min()), float(values.max())
    if not np.isfinite(low) or not np.isfinite(high):
        return "not finite"
    reach = max(-low, high)
    if reach >= _OVERFLOW[dtype]:
        return f"{reach:.4g}, more than {FLOATS[dtype]} holds: choose a wider --dtype"
    return None


class _Blocks(threading.local):
    """A thread's buffers, kept: allocating them for every piece costs more in page faults than the sums."""

    def __init__(self):
        self.total, self.term, self.origin = (np.empty(BLOCK, np.float32) for _ in range(3))
        self.raw = np.empty(BLOCK * 4, np.uint8)


_blocks = _Blocks()


def weighted_sum(
    name: str,
    parts: Sequence[tuple[Stored, float]],
    base: Stored | None,
    dtype: str,
    start: int,
    out: np.ndarray,
) -> None:
    """Write elements of sum c_j m_j, or of base + sum c_j (m_j - base), from `start` on into `out`.

    Differences are taken before they are weighted: if models equal their base, so does the sum, exactly.

    Args:
        name: of the tensor, for messages.
        dtype: of the result, F32, BF16 or F16.
        out: uint8, filled to its end.

    Raises:
        ValueError: an input has NaN or infinity, or a sum does not fit the dtype.
    """
    size = ITEM[dtype]
    total, term, origin, raw = _blocks.total, _blocks.term, _blocks.origin, _blocks.raw
    inputs = [*(tensor for tensor, _ in parts), *([base] if base else [])]
    with ExitStack() as opened:
        files = {}
        for file in {tensor.file for tensor in inputs}:
            files[file] = os.open(file, os.O_RDONLY)
            opened.callback(os.close, files[file])

        def read(tensor: Stored, first: int, into: np.ndarray) -> None:
            piece = raw[: len(into) * ITEM[tensor.dtype]]
            read_into(files[tensor.file], tensor, first, piece)
            decode(piece, tensor.dtype, into)

        for begin in range(0, len(out) // size, BLOCK):
            n = min(BLOCK, len(out) // size - begin)
            here, other, zero = total[:n], term[:n], origin[:n]
            if base:
                read(base, start + begin, zero)
            with np.errstate(all="ignore"):
                for index, (tensor, coefficient) in enumerate(parts):
                    target = other if index else here
                    read(tensor, start + begin, target)
                    if base:
                        np.subtract(target, zero, out=target)
                    np.multiply(target, np.float32(coefficient), out=target)
                    if index:
                        np.add(here, other, out=here)
                if base:
                    np.add(here, zero, out=here)
            if wrong := check_range(here, dtype):
                for tensor in inputs:
                    read(tensor, start + begin, other)
                    refuse_strange(name, tensor, other, start + begin)
                raise ValueError(f"tensor {name}: the sum is {wrong}")
            encode(here, dtype, out[begin * size : (begin + n) * size], other)


def refuse_strange(name: str, tensor: Stored, values: np.ndarray, first: int) -> None:
    """Raise ValueError, naming file, tensor and index, if an input has NaN or infinity."""
    strange = np.flatnonzero(~np.isfinite(values))
    if len(strange):
        place = [int(i) for i in np.unravel_index(first + int(strange[0]), tensor.shape)]
        kind = "NaN" if np.isnan(values[strange[0]]) else "infinity"
        raise ValueError(
            f"{tensor.file}: tensor {name} has {kind} at {place}, and so would every merge of it: "
            "train or export that model again"
        )


def copied(tensor: Stored, start: int, out: np.ndarray) -> None:
    """Copy the bytes of a tensor from element `start` on into `out`, uint8, until it is full."""
    descriptor = os.open(tensor.file, os.O_RDONLY)
    try:
        read_into(descriptor, tensor, start, out)
    finally:
        os.close(descriptor)


def same_bytes(a: Stored, b: Stored) -> bool:
    """Return True if two tensors of the same dtype and shape hold the same bits."""
    step = max(1, (1 << 20) // ITEM[a.dtype])
    for start in range(0, a.count, step):
        size = min(step, a.count - start) * ITEM[a.dtype]
        left, right = np.empty(size, np.uint8), np.empty(size, np.uint8)
        copied(a, start, left)
        copied(b, start, right)
        if not np.array_equal(left, right):
            return False
    return True
