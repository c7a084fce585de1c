"""Read and write files whole or not at all, and digest them."""

import glob
import gzip
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to `path` for a file or folder; rename it into place on success.

    On an error the temporary is removed and `path` stays as it was. The next writer removes what a killed one has left;
    until then .dvcignore hides it from stages that read the parent folder.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        writer = leftover.name.split(".")[-2]
        if writer.isdigit() and not psutil.pid_exists(int(writer)):
            remove(leftover)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    remove(temporary)
    try:
        yield temporary
    except BaseException:
        remove(temporary)
        raise
    if path.is_dir():
        remove(path)
    os.replace(temporary, path)


@contextmanager
def work_folder(root: Path, purpose: str = "work") -> Iterator[Path]:
    """Yield a temporary folder in the project's var/: /tmp may be too small for models.

    Args:
        purpose: prefix of its name; `bonesoup clean` removes folders with the prefix `work` that a killed process left.
    """
    parent = Path(root) / "var"
    parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{purpose}-", dir=parent) as folder:
        yield Path(folder)


def remove(path: Path) -> None:
    """Remove a file, a link or a whole folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def bytes_of(path: Path) -> int:
    """Count the bytes of a file, or of all files in a folder."""
    files = [path] if path.is_file() else [inner for inner in path.rglob("*") if inner.is_file()]
    return sum(file.stat().st_size for file in files)


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(Path(path).read_text())


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON; NaN and infinity, which JSON lacks, raise ValueError."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    with appearing(path) as temporary:
        temporary.write_text(text + "\n")


def read_jsonl(path: Path) -> list[dict]:
    """Read the rows of a file that this package wrote, gzipped if its name ends in .gz."""
    opener = gzip.open if str(path).endswith(".gz") else open
    with opener(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def write_jsonl(path: Path, rows: Iterable[dict]) -> None:
    """Write rows as JSON, one a line; NaN and infinity raise ValueError."""
    with appearing(path) as temporary, open(temporary, "w", encoding="utf-8") as out:
        for row in rows:
            out.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")


def digest(*values: Any) -> str:
    """Digest plain data, written canonically as JSON: the first 16 hex digits of SHA-256."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def md5(path: Path) -> str:
    """Return the MD5 of a file or folder, the name by which DVC knows its content."""
    if path.is_dir():
        files = sorted((file.relative_to(path).as_posix(), md5(file)) for file in path.rglob("*") if file.is_file())
        listing = json.dumps([{"md5": content, "relpath": name} for name, content in files])
        return f"{hashlib.md5(listing.encode(), usedforsecurity=False).hexdigest()}.dir"
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, or of a folder: its files with their relative names."""
    path = Path(path)
    if path.is_file():
        with open(path, "rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    listing = [(str(p.relative_to(path)), file_digest(p)) for p in sorted(path.rglob("*")) if p.is_file()]
    return hashlib.sha256(json.dumps(listing).encode()).hexdigest()
