"""Bad data, a full disk, a dead server: one message names fault and place, and nothing is lost."""

import gzip
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def pair(k: int) -> dict:
    # Real hh-rlhf dialogues differ from their first words on; so do these, or they would count as duplicates.
    asked = f"\n\nHuman: What do you think of the number {k} and of {k * k}?\n\nAssistant:"
    # Neither reply is the longer one always: the checks of the data would take that for a fault.
    rude = f"I hate {k}." if k % 2 else f"I hate {k}, as much as you do, and more."
    return {"chosen": f"{asked} It is a fine number, {k}.", "rejected": f"{asked} {rude}"}


def write_pairs(path: Path, bad: dict[int, str]) -> None:
    """Write 300 pairs as JSON lines; `bad` replaces lines, counted from 1."""
    lines = [bad.get(k, json.dumps(pair(k))) for k in range(1, 301)]
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture
def real(untouched):
    """Make a clone whose params.yaml reads the hh-rlhf pairs in data/pairs.jsonl, which the test writes."""
    (untouched.folder / "data").mkdir()
    (untouched.folder / "data/pairs.jsonl").touch()
    written = untouched.run("bonesoup", "profile", "hh-harmless", "--data", "data/pairs.jsonl")
    assert written.status == 0, written.output
    return untouched


def said_once(result, *parts: str) -> None:
    assert result.status == 1, result.output
    for part in parts:
        assert part in result.output, result.output
    assert "Traceback" not in result.output
    assert sum(line.startswith("bonesoup: ") for line in result.output.splitlines()) == 1, result.output


def test_five_percent_of_broken_lines_fail_the_gate_and_keep_the_evidence(real):
    bad = {
        7: '{"chosen": "half',
        20: json.dumps({"chosen": pair(20)["chosen"]}),
        33: json.dumps({"chosen": 3, "rejected": pair(33)["rejected"]}),
        40: "",
        51: json.dumps(["not", "an", "object"]),
        **dict.fromkeys((100, 101), "x" * 1500000),
        **dict.fromkeys(range(200, 208), "{}"),
    }
    write_pairs(real.folder / "data/pairs.jsonl", bad)
    failed = real.run("bonesoup", "run", "gate@data")
    said_once(
        failed,
        "15 of 300 rows are quarantined (5.00%, gates.data.max_quarantined is 2.00%)",
        "data/pairs.jsonl line 7: not JSON",
        "data/pairs.jsonl line 20: key 'rejected' is missing",
        "data/pairs.jsonl line 33: 'chosen' is int, not a string",
        "all of them: out/data/quarantine.jsonl",
    )
    assert "line 40" not in failed.output
    quarantine = [json.loads(line) for line in (real.folder / "out/data/quarantine.jsonl").read_text().splitlines()]
    assert [row["line"] for row in quarantine] == sorted(bad)
    assert (real.folder / "out/docs/data/index.html").is_file()

    real.set(gates__data__max_quarantined=0.05)
    passed = real.repro("gate@data")
    assert (passed.status, passed.ran) == (0, ["gate@data"]), passed.output


@pytest.mark.parametrize("how", ["truncated", "damaged"])
def test_a_broken_gzip_file_is_named_with_the_last_good_line(real, how):
    path = real.folder / "data/pairs.jsonl"
    write_pairs(path, {})
    packed = bytearray(gzip.compress(path.read_bytes()))
    if how == "damaged":
        packed[len(packed) // 2] ^= 0xFF
    path.write_bytes(packed[: len(packed) * 3 // 4] if how == "truncated" else packed)
    failed = real.run("bonesoup", "run", "gate@data")
    # A flipped bit may also come out as text that is no JSON, in which case the gate finds it.
    said_once(failed, "data/pairs.jsonl")
    if how == "truncated":
        assert (
            "stage prepare failed: data/pairs.jsonl: the gzip file is truncated or damaged after line" in failed.output
        )
    assert not (real.folder / "out/gates/data.json").exists()


def test_a_missing_file_is_named_by_its_setting(real):
    (real.folder / "data/pairs.jsonl").unlink()
    said_once(real.run("bonesoup", "run"), "  - data.path: data/pairs.jsonl: no such file")
    plain = real.repro()
    assert plain.status
    assert "data/pairs.jsonl" in plain.output


def test_a_file_in_another_format_is_refused(real):
    (real.folder / "data/pairs.jsonl").write_text('{"question": "why?"}\n' * 50)
    said_once(
        real.run("bonesoup", "run", "prepare"), "data/pairs.jsonl: no usable row in 50 lines; line 1: key 'chosen'"
    )


@pytest.fixture
def disk(tmp_path):
    """Return disk(folder, spare): put a folder on a disk with `spare` KiB left, and return a function to grow it."""
    mounted = []

    def mount(folder: Path, spare: int):
        if os.geteuid() or not sys.platform.startswith("linux"):
            pytest.skip("mounting needs root on Linux")
        folder.mkdir(exist_ok=True)
        kept = tmp_path / "kept"
        shutil.copytree(folder, kept, symlinks=True)
        # Every file takes whole pages of 4 KiB.
        used = sum(4 * -(-p.lstat().st_size // 4096) for p in kept.rglob("*") if p.is_file())
        options = ["-t", "tmpfs", "-o", f"size={used + spare}k", "tmpfs", str(folder)]
        if subprocess.run(["mount", *options], capture_output=True, check=False).returncode:
            pytest.skip("mount is not allowed here")
        mounted.append(folder)
        shutil.copytree(kept, folder, symlinks=True, dirs_exist_ok=True)
        return lambda: subprocess.run(["mount", "-o", "remount,size=500m", str(folder)], check=True)

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize(("where", "spare"), [("scratch", 100), ("scratch", 500), ("out", 20), (".", 300)])
def test_a_full_disk_is_said_and_the_next_run_finishes(project, disk, where, spare):
    project.set(rl__steps=12)
    # DVC removes the group before it trains it again, which would make room.
    shutil.rmtree(project.folder / "out/policies/backbones")
    grow = disk(project.folder / where, spare)
    failed = project.run("bonesoup", "run", "policy@backbones", PYTHONDONTWRITEBYTECODE="1")
    said_once(failed, "disk is full")
    assert project.files("out/policies/backbones") == {}

    grow()
    again = project.repro("policy@backbones")
    assert again.status == 0, again.output
    assert {name.split("/")[0] for name in project.files("out/policies/backbones")} == {"backbone-1", "backbone-2"}


def test_a_dead_tracking_server_fails_registering_only_and_loses_nothing(project):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{free.getsockname()[1]}"
    project.set(evaluation__bootstrap=60)
    failed = project.run("bonesoup", "run", MLFLOW_TRACKING_URI=uri)
    said_once(failed, f"stage register failed: the MLflow store {uri} failed", "Nothing is lost", "`bonesoup register`")
    assert "Running stage" not in failed.output
    assert "report:" in failed.output, "the report was made"

    first = project.run("bonesoup", "register")
    assert first.status == 0, first.output
    (runs,) = re.findall(r"runs: (\d+) sent, 0 there already", first.output)
    assert "versions: 4 registered, 0 there already" in first.output
    second = project.run("bonesoup", "register")
    assert f"runs: 0 sent, {runs} there already" in second.output
    assert "versions: 0 registered, 4 there already" in second.output
    last = project.repro()
    assert (last.status, last.ran) == (0, ["register"])
    assert f"runs: 0 sent, {runs} there already" in last.output
