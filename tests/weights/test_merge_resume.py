"""Merges that are killed, run out of disk or meet another: nothing looks finished, and --resume continues."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from checkpoints import folder_of, tensors_of

from bonesoup.files import read_json
from bonesoup.locks import exclusive
from bonesoup.weights import merge, stream


class Cut(BaseException):
    """End a merge as a kill would: BaseException, so that none of its handlers runs."""


@pytest.fixture
def models(tmp_path, monkeypatch):
    """Write two models of nine tensors, merged in small pieces with a note after each."""
    monkeypatch.setattr(stream, "PIECE", 1 << 10)
    monkeypatch.setattr(stream, "NOTE_EVERY", 1 << 11)
    made = []
    for seed, name in enumerate("ab"):
        generator = torch.Generator().manual_seed(seed)
        tensors = {f"t{i}": torch.randn(30, 40, generator=generator) for i in range(9)}
        made.append((folder_of(tmp_path / name, tensors), 1.75 if name == "a" else -0.75))
    return made


def cut(models, out, after, **options):
    """Merge until more than `after` bytes are written."""

    def stop(done, total):
        if done > after:
            raise Cut

    with pytest.raises(Cut):
        merge(models, out, progress=stop, **options)
    assert not out.exists()


def resumed(models, out, **options):
    """Return the bytes that a resumed merge takes over."""
    seen = []
    merge(models, out, resume=True, progress=lambda done, total: seen.append(done), **options)
    return seen[0]


def same(out, expected):
    names = sorted(p.name for p in expected.glob("*.safetensors*"))
    assert sorted(p.name for p in out.glob("*.safetensors*")) == names
    assert all((out / name).read_bytes() == (expected / name).read_bytes() for name in names)


@pytest.mark.parametrize("shard_size", [10**9, 10000])
@pytest.mark.parametrize("after", [500, 7000, 30000, 43000])
def test_a_cut_merge_is_continued_and_comes_out_the_same(tmp_path, models, shard_size, after):
    merge(models, tmp_path / "whole", shard_size=shard_size)
    cut(models, tmp_path / "out", after, shard_size=shard_size)
    kept = resumed(models, tmp_path / "out", shard_size=shard_size)
    assert kept > after - 4 * stream.NOTE_EVERY
    same(tmp_path / "out", tmp_path / "whole")
    recorded = [read_json(tmp_path / name / "merge.json")["files"] for name in ("whole", "out")]
    digests = [{name: entry for name, entry in files.items() if name != "README.md"} for files in recorded]
    assert digests[0] == digests[1]
    assert {p.name for p in tmp_path.iterdir()} == {"a", "b", "whole", "out"}


def test_what_was_kept_is_checked(tmp_path, models):
    """A file that is not what its note says, as after a power cut, is written again."""
    merge(models, tmp_path / "whole")
    cut(models, tmp_path / "out", 30000)
    (partial,) = tmp_path.glob(".out.merging/model/*.safetensors")
    with open(partial, "r+b") as file:
        file.seek(5000)
        file.write(b"\0" * 64)
    assert resumed(models, tmp_path / "out") < 5000
    same(tmp_path / "out", tmp_path / "whole")


def test_a_note_torn_by_a_kill_counts_for_nothing(tmp_path, models):
    cut(models, tmp_path / "out", 30000)
    notes = tmp_path / ".out.merging/notes.jsonl"
    notes.write_text(notes.read_text()[:-20])
    assert 10000 < resumed(models, tmp_path / "out") < 30000
    merge(models, tmp_path / "whole")
    same(tmp_path / "out", tmp_path / "whole")


def test_only_the_same_merge_is_continued(tmp_path, models):
    cut(models, tmp_path / "out", 30000)
    (a, _), (b, _) = models
    for others, options in [
        ([(a, 0.5), (b, 0.5)], {}),
        (models, {"dtype": "bfloat16"}),
        (models, {"shard_size": 9999}),
        (models, {"base": a}),
    ]:
        with pytest.raises(ValueError, match="begun with other models, coefficients or settings"):
            merge(others, tmp_path / "out", resume=True, **options)
    os.utime(b / "model.safetensors", ns=(1, 1))
    with pytest.raises(ValueError, match="begun with other"):
        merge(models, tmp_path / "out", resume=True)
    merge(models, tmp_path / "out")
    assert len(tensors_of(tmp_path / "out")) == 9


def test_without_resume_a_merge_starts_over(tmp_path, models):
    cut(models, tmp_path / "out", 30000)
    seen = []
    merge(models, tmp_path / "out", progress=lambda done, total: seen.append(done))
    assert seen[0] < 2000
    assert resumed(models, tmp_path / "again") < 2000, "nothing to resume is no fault"


def test_two_merges_into_one_folder(tmp_path, models):
    (tmp_path / ".out.merging").mkdir()
    with exclusive(tmp_path / ".out.merging/lock"), pytest.raises(TimeoutError, match=f"held by process {os.getpid()}"):
        merge(models, tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize("shard", ["5GB", "60MB"])
def test_kill_9_in_the_middle(tmp_path, shard):
    generator = torch.Generator().manual_seed(0)
    for name in "ab":
        tensors = {f"t{i}": torch.randn(2048, 4096, generator=generator).bfloat16() for i in range(24)}
        folder_of(tmp_path / name, tensors)
    command = [str(Path(sys.executable).with_name("bonesoup")), "merge", "--model=a=1.75", "--model=b=-0.75"]
    command += ["--shard-size", shard, "--out"]
    subprocess.run([*command, "whole"], cwd=tmp_path, check=True)
    killed = subprocess.Popen([*command, "out"], cwd=tmp_path)
    notes = tmp_path / ".out.merging/notes.jsonl"
    while not (notes.is_file() and len(notes.read_text().splitlines()) >= 2):
        assert killed.poll() is None, "it ended before it could be killed"
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "out").exists()
    done = subprocess.run([*command, "out", "--resume"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    same(tmp_path / "out", tmp_path / "whole")
    assert {p.name for p in tmp_path.iterdir()} == {"a", "b", "whole", "out"}


@pytest.mark.slow
def test_a_full_disk_is_said_and_the_merge_continues_when_there_is_room(tmp_path):
    if os.geteuid() or not sys.platform.startswith("linux"):
        pytest.skip("mounting needs root on Linux")
    tensors = {f"t{i}": torch.randn(1024, 4096) for i in range(24)}
    folder_of(tmp_path / "a", tensors)
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200m", "tmpfs", str(small)], check=False).returncode:
        pytest.skip("mount is not allowed here")
    try:
        command = [str(Path(sys.executable).with_name("bonesoup")), "merge", "--model=a=1", "--out=small/out"]
        failed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert failed.returncode == 1
        assert "the disk is full while writing" in failed.stderr
        assert "small/.out.merging/model/model.safetensors" in failed.stderr
        assert "Traceback" not in failed.stderr
        assert not (small / "out").exists()
        subprocess.run(["mount", "-o", "remount,size=900m", str(small)], check=True)
        before = (small / ".out.merging/notes.jsonl").read_text()
        assert before
        done = subprocess.run([*command, "--resume"], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert (small / "out/model.safetensors").read_bytes() == (tmp_path / "a/model.safetensors").read_bytes()
        assert [p.name for p in small.iterdir()] == ["out"]
    finally:
        subprocess.run(["umount", "--lazy", str(small)], check=True)
    shutil.rmtree(small)
