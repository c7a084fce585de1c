"""Files appear whole or not at all, and a full disk is explained."""

import errno
import gzip
import math
import os
import signal
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bonesoup.cli.main import explain
from bonesoup.files import appearing, digest, file_digest, read_json, read_jsonl, write_json, write_jsonl


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_leaves_nothing_and_keeps_what_was_there(tmp_path, kind, error):
    path = tmp_path / "result"
    path.write_text("before")
    with pytest.raises(error), appearing(path) as temporary:  # noqa: PT012
        if kind == "folder":
            temporary.mkdir()
            (temporary / "part").write_text("half")
        else:
            temporary.write_text("half")
        raise error
    assert names(tmp_path) == ["result"]
    assert path.read_text() == "before"


def test_nothing_is_there_before_the_end(tmp_path):
    path = tmp_path / "deep" / "result"
    with appearing(path) as temporary:
        temporary.write_text("all of it")
        assert not path.exists()
    assert path.read_text() == "all of it"
    assert names(path.parent) == ["result"]


def test_a_folder_replaces_a_folder_whole(tmp_path):
    for content in ("old", "new"):
        with appearing(tmp_path / "result") as folder:
            folder.mkdir()
            (folder / content).touch()
    assert names(tmp_path) == ["result"]
    assert names(tmp_path / "result") == ["new"]


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path):
    code = """
import os, sys
from pathlib import Path
from bonesoup.files import appearing
with appearing(Path(sys.argv[1])) as folder:
    folder.mkdir()
    (folder / "part").write_text("half")
    os.kill(os.getpid(), 9)
"""
    path = tmp_path / "result[1]"
    killed = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(names(tmp_path)) == 1
    assert not path.exists()
    with appearing(path) as temporary:
        temporary.write_text("whole")
    assert names(tmp_path) == ["result[1]"]


def test_another_living_writer_keeps_its_temporary(tmp_path):
    other = tmp_path / f".result.{os.getppid()}.tmp"
    other.touch()
    (tmp_path / ".result.notes.tmp").touch()
    with appearing(tmp_path / "result") as temporary:
        temporary.touch()
    assert names(tmp_path) == sorted([other.name, ".result.notes.tmp", "result"])


@pytest.mark.parametrize("value", [math.nan, math.inf, {"a": [1, -math.inf]}])
def test_what_is_no_json_is_refused_and_leaves_nothing(tmp_path, value):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x.json", value)
    with pytest.raises(ValueError, match="JSON"):
        write_jsonl(tmp_path / "x.jsonl", [{"ok": 1}, {"bad": value}])
    assert names(tmp_path) == []


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(rows=st.lists(st.dictionaries(TEXT, TEXT | st.integers() | st.floats(allow_nan=False, allow_infinity=False))))
def test_rows_come_back_as_written(tmp_path_factory, rows):
    """Line separators of Unicode inside a string must not split a row."""
    folder = tmp_path_factory.mktemp("rows")
    write_jsonl(folder / "rows.jsonl", rows)
    assert read_jsonl(folder / "rows.jsonl") == rows
    (folder / "rows.jsonl.gz").write_bytes(gzip.compress((folder / "rows.jsonl").read_bytes()))
    assert read_jsonl(folder / "rows.jsonl.gz") == rows
    write_json(folder / "rows.json", rows)
    assert read_json(folder / "rows.json") == rows


def test_digest_ignores_the_order_of_keys_only():
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest([1, 2]) != digest([2, 1])
    assert digest(1) != digest("1")
    with pytest.raises(ValueError, match="JSON"):
        digest(math.nan)


def test_a_folder_digest_sees_names_places_and_contents(tmp_path):
    seen = set()
    for change in (
        lambda f: (f / "a").write_text("1"),
        lambda f: (f / "a").write_text("2"),
        lambda f: (f / "a").rename(f / "b"),
        lambda f: ((f / "sub").mkdir(), (f / "b").rename(f / "sub/b")),
    ):
        change(tmp_path)
        seen.add(file_digest(tmp_path))
    assert len(seen) == 4


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "out/x"),
        OSError(errno.EDQUOT, "Disk quota exceeded", "out/x"),
        Exception('Error while serializing: Os { code: 28, message: "No space left on device" }'),
        RuntimeError("[enforce fail at inline_container.cc:672] . PytorchStreamWriter failed writing file data/0"),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0"),
        Exception("(sqlite3.OperationalError) database or disk is full"),
    ],
)
def test_a_full_disk_is_explained_whoever_reports_it(error):
    message = explain(error)
    assert message.startswith("the disk is full")
    assert "run again" in message
    if isinstance(error, OSError):
        assert "out/x" in message


def test_an_error_of_unknown_kind_is_named_with_the_way_to_its_place():
    assert "KeyError" in explain(KeyError("rows"))
    assert "--debug" in explain(KeyError("rows"))
    assert explain(ValueError("params.yaml has 1 fault")) == "params.yaml has 1 fault"


@pytest.mark.slow
def test_on_a_disk_that_is_really_full(tmp_path):
    if os.geteuid() or not sys.platform.startswith("linux"):
        pytest.skip("mounting needs root on Linux")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mount is not allowed here")
    try:
        write_json(disk / "kept.json", {"a": 1})
        with pytest.raises(OSError, match="No space left") as caught:
            write_jsonl(disk / "rows.jsonl", ({"row": "x" * 1000} for _ in range(2000)))
        assert explain(caught.value).startswith("the disk is full")
        assert names(disk) == ["kept.json"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)
