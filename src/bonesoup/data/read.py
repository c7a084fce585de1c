"""Read the rows of a source: JSON lines, gzipped or not, or a Hugging Face dataset.

Rows that cannot be read are set aside with their line and the reason, never dropped.
"""

import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bonesoup.settings.schema import Data

MAX_LINE = 1_000_000  # bytes; a longer line is quarantined unread
EXCERPT = 120  # characters kept of a bad row


class BadRow(ValueError):
    """A row that cannot be used, with the reason; `excerpt` shows the offending part."""

    def __init__(self, reason: str, excerpt: Any = ""):
        super().__init__(reason)
        self.excerpt = excerpt


def read(data: Data, parse: Callable[[dict], Any]) -> tuple[list[tuple[int, Any]], list[dict]]:
    """Parse every row of a source; `parse` raises BadRow for a row it cannot use.

    Returns:
        (line number from 1, parsed row) of the good rows, and the quarantine entries of the others.

    Raises:
        ValueError: the source is missing, empty or truncated, or has no usable row.
    """
    name = source_name(data)
    lines = _hub_rows(data) if data.hub else _file_rows(Path(data.path))
    good, quarantine = [], []
    for number, row in lines:
        try:
            if isinstance(row, BadRow):
                raise row
            if not isinstance(row, dict):
                raise BadRow(f"not a JSON object but {type(row).__name__}", row)
            good.append((number, parse(row)))
        except BadRow as fault:
            quarantine.append(set_aside(data, number, str(fault), fault.excerpt or row))
    if not good and not quarantine:
        raise ValueError(f"{name} is empty: it must have rows in the {data.source} format (docs/data-formats.md)")
    if not good:
        first = quarantine[0]
        raise ValueError(
            f"{name}: no usable row in {len(quarantine)} lines; line {first['line']}: {first['reason']}. Is it in the "
            f"{data.source} format (docs/data-formats.md)?"
        )
    return good, quarantine


def source_name(data: Data) -> str:
    """Return a source's name for messages."""
    folder = f"/{data.hub_folder}" if data.hub_folder else ""
    return f"{data.hub}{folder}@{data.revision}:{data.hub_split}" if data.hub else data.path


def set_aside(data: Data, line: int, reason: str, excerpt: Any) -> dict:
    """Make a quarantine entry."""
    text = excerpt if isinstance(excerpt, str) else repr(excerpt)
    text = text[: EXCERPT + 1].encode("utf-8", "backslashreplace").decode()
    text = text if len(text) <= EXCERPT else text[: EXCERPT - 1] + "…"
    return {"file": source_name(data), "line": line, "reason": reason, "excerpt": text}


def field(row: dict, key: str, where: str = "") -> Any:
    """Return the value of a key; null counts as missing, since Hub datasets fill absent keys with it."""
    if row.get(key) is None:
        raise BadRow(f"key {f'{where}.{key}' if where else key!r} is missing", sorted(map(str, row)))
    return row[key]


def text_of(row: dict, key: str, where: str = "", optional: bool = False) -> str:
    """Return a string of a row, stripped.

    Raises:
        BadRow: the key is missing, not a string, not valid Unicode, or blank (unless `optional`).
    """
    label = f"{where}.{key}" if where else key
    value = field(row, key, where)
    if not isinstance(value, str):
        raise BadRow(f"{label!r} is {type(value).__name__}, not a string", value)
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise BadRow(f"{label!r} is not valid Unicode (a lone surrogate)", value) from None
    if not value.strip() and not optional:
        raise BadRow(f"{label!r} is empty", repr(row)[:EXCERPT])
    return value.strip()


def check_length(name: str, text: str, limit: int) -> None:
    """Refuse a text longer than `limit` characters.

    Raises:
        BadRow: the text is too long.
    """
    if len(text) > limit:
        raise BadRow(f"{name} has {len(text)} characters, more than data.max_response_chars = {limit}", text)


def _file_rows(path: Path) -> Iterator[tuple[int, Any]]:
    if not path.is_file():
        raise ValueError(f"{path}: no such file; set data.path, or run `bonesoup profile NAME --data PATH`")
    number = 0
    try:
        with open(path, "rb") as probe:
            opener = gzip.open if probe.read(2) == b"\x1f\x8b" else open
        with opener(path, "rb") as handle:
            while line := handle.readline(MAX_LINE + 1):
                number += 1
                yield number, _decode(line) if len(line) <= MAX_LINE else _skip(handle, line)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(
            f"{path}: the gzip file is truncated or damaged after line {number} ({error}); fetch it again"
        ) from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error}") from None


def _skip(handle: Any, line: bytes) -> BadRow:
    """Skip the rest of an overlong line without holding it in memory."""
    size, part = len(line), line
    while not part.endswith(b"\n") and (part := handle.readline(MAX_LINE)):
        size += len(part)
    return BadRow(f"the line has {size} bytes, more than {MAX_LINE}", line[: 2 * EXCERPT].decode("utf-8", "replace"))


def _decode(line: bytes) -> Any:
    text = line.decode("utf-8", "replace").strip()
    if not text:
        return BadRow("the line is empty")
    try:
        return json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return BadRow("not valid UTF-8", text[: 2 * EXCERPT])
    except (ValueError, RecursionError) as error:
        return BadRow(f"not JSON: {error}"[:EXCERPT], text[: 2 * EXCERPT])


def _hub_rows(data: Data) -> Iterator[tuple[int, Any]]:
    # Imported here, since it takes 1.4 s and only Hub sources need it.
    from datasets import load_dataset

    try:
        dataset = load_dataset(data.hub, data_dir=data.hub_folder, revision=data.revision, split=data.hub_split)
    except Exception as error:
        # It raises many unrelated errors (network, not found, format), which all mean the same to the user.
        raise ValueError(
            f"data.hub: {data.hub} at revision {data.revision}, split {data.hub_split}, cannot be loaded: "
            f"{type(error).__name__}: {error}"
        ) from None
    yield from enumerate(dataset, start=1)
