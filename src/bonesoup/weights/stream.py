"""Write tensors to safetensors files as they are computed: on all cores, in little memory, with digests.

A file is cut into pieces. Threads compute pieces and write them at their positions; NumPy and the kernel release
Python's lock, so reading, arithmetic and writing overlap. Digests need the order: the calling thread follows with
them and notes from time to time how far a file has got and the digest up to there. Another process can check these
notes and continue.
"""

import hashlib
import json
import math
import os
import queue
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bonesoup.files import write_json
from bonesoup.weights.checkpoint import INDEX, SINGLE
from bonesoup.weights.tensors import ITEM, header

# Bytes of a piece: small enough to be still in cache when it is written and digested. Each thread has two.
PIECE = 1 << 21
# More threads would only wait for the digest, and take memory.
THREADS = 16
# Bytes between two progress notes of a file.
NOTE_EVERY = 1 << 26

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Output:
    """A tensor to write.

    Attributes:
        dtype: its name in safetensors, such as BF16.
        fill: fill(start, out) computes elements of the flattened tensor from `start` on into `out`, uint8, until it
            is full. Called from several threads at once.
    """

    dtype: str
    shape: tuple[int, ...]
    fill: Callable[[int, np.ndarray], None]

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * ITEM[self.dtype]


@dataclass(frozen=True)
class _Piece:
    file: str
    position: int
    output: Output
    start: int
    bytes: int


def write(
    folder: Path,
    files: dict[str, dict[str, Output]],
    notes: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, dict]:
    """Write files of tensors into a folder.

    Args:
        files: {file name: {tensor name: tensor}}; tensors are stored in this order, the wider dtypes first.
        notes: file that says how far each file has got. What an earlier process noted there is checked and kept.
        progress: called with the bytes written so far and in all.

    Returns:
        {file name: {"bytes": size, "sha256": digest}}.
    """
    files = {name: dict(sorted(t.items(), key=lambda item: -ITEM[item[1].dtype])) for name, t in files.items()}
    heads = {name: header({key: (o.dtype, o.shape) for key, o in tensors.items()}) for name, tensors in files.items()}
    sizes = {name: len(heads[name]) + sum(o.bytes for o in tensors.values()) for name, tensors in files.items()}
    kept, digests = _begin(folder, heads, sizes, notes)
    written, total = sum(kept.values()), sum(sizes.values())
    noted = dict(kept)
    if progress:
        progress(written, total)
    pieces = (piece for name in files for piece in _pieces(name, files[name], heads, kept[name]))
    for name, end, data in _computed(folder, pieces):
        digests[name].update(data)
        kept[name] = end
        written += len(data)
        if notes and (end == sizes[name] or end - noted[name] >= NOTE_EVERY):
            _note(notes, name, end, digests[name].hexdigest())
            noted[name] = end
        if progress:
            progress(written, total)
    return {name: {"bytes": sizes[name], "sha256": digests[name].hexdigest()} for name in files}


def write_index(folder: Path, files: dict[str, dict[str, Output]]) -> None:
    """Write model.safetensors.index.json for files {file name: {tensor name: tensor}}, unless it is a single one."""
    if SINGLE in files:
        return
    total = sum(output.bytes for outputs in files.values() for output in outputs.values())
    owner = {key: name for name, outputs in files.items() for key in outputs}
    write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": dict(sorted(owner.items()))})


def _pieces(name: str, tensors: dict[str, Output], heads: dict[str, bytes], kept: int) -> Iterator[_Piece]:
    """Yield the missing pieces of a file, in order, cut at the same places every time."""
    position = len(heads[name])
    for output in tensors.values():
        item = ITEM[output.dtype]
        step = PIECE // item
        for start in range(0, output.bytes // item, step):
            size = min(step * item, output.bytes - start * item)
            if position >= kept:
                yield _Piece(name, position, output, start, size)
            position += size


def _computed(folder: Path, pieces: Iterator[_Piece]) -> Iterator[tuple[str, int, np.ndarray]]:
    """Yield (file, end of the piece, its bytes) in order; threads compute and write. The bytes are reused later."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = min(cores, THREADS)
    buffers: queue.SimpleQueue[np.ndarray] = queue.SimpleQueue()
    waiting: deque[tuple[_Piece, np.ndarray, Future]] = deque()

    def work(piece: _Piece, buffer: np.ndarray) -> None:
        piece.output.fill(piece.start, buffer[: piece.bytes])
        _write_at(folder / piece.file, piece.position, memoryview(buffer[: piece.bytes]))

    with ThreadPoolExecutor(workers) as pool:
        for _ in range(2 * workers):
            buffers.put(np.empty(PIECE, np.uint8))
        try:
            more = True
            while more or waiting:
                while more and len(waiting) < 2 * workers:
                    if (piece := next(pieces, None)) is None:
                        more = False
                    else:
                        buffer = buffers.get()
                        waiting.append((piece, buffer, pool.submit(work, piece, buffer)))
                if waiting:
                    piece, buffer, done = waiting.popleft()
                    done.result()
                    yield piece.file, piece.position + piece.bytes, buffer[: piece.bytes]
                    buffers.put(buffer)
        finally:
            pool.shutdown(cancel_futures=True)


def _write_at(path: Path, position: int, data: memoryview) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        while data:
            written = os.pwrite(descriptor, data, position)
            data, position = data[written:], position + written
    except OSError as error:
        # The kernel's error does not name the file.
        error.filename = str(path)
        raise
    finally:
        os.close(descriptor)


def _begin(
    folder: Path, heads: dict[str, bytes], sizes: dict[str, int], notes: Path | None
) -> tuple[dict[str, int], dict]:
    """Return how much of each file is kept, the header at least, and the running digest of that part."""
    noted = _read_notes(notes) if notes and notes.is_file() else {}
    kept, digests = {}, {}
    for name, head in heads.items():
        path = folder / name
        end, expected = noted.get(name, (0, ""))
        running = hashlib.sha256()
        if len(head) <= end <= sizes[name] and path.is_file() and _digest_start(path, end, running) == expected:
            kept[name] = end
        else:
            kept[name] = len(head)
            running = hashlib.sha256(head)
            path.write_bytes(head)
        os.truncate(path, kept[name])
        digests[name] = running
    return kept, digests


def _digest_start(path: Path, end: int, running) -> str:
    with open(path, "rb") as file:
        while end > 0 and (data := file.read(min(PIECE, end))):
            running.update(data)
            end -= len(data)
    return running.hexdigest()


def _note(notes: Path, name: str, end: int, digest: str) -> None:
    with open(notes, "a") as file:
        file.write(json.dumps([name, end, digest]) + "\n")


def _read_notes(notes: Path) -> dict[str, tuple[int, str]]:
    """Return the last note of each file; a line torn by a kill is skipped."""
    last = {}
    for line in notes.read_text().splitlines():
        try:
            name, end, digest = json.loads(line)
        except ValueError:
            continue
        last[name] = (end, digest)
    return last
