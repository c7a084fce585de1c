"""The commands verify, rebuild and clean on a finished pipeline."""

import re
import shutil
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def cached(project) -> list[Path]:
    return [path for path in (project.folder / ".dvc/cache/files/md5").rglob("*") if path.is_file()]


def flip(path: Path) -> None:
    """Flip one bit of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)


def test_a_corrupted_cached_file_is_found_and_restored_from_the_remote(project, tmp_path):
    assert project.run("dvc", "remote", "add", "--default", "store", str(tmp_path / "remote")).status == 0
    assert project.run("dvc", "push").status == 0
    assert project.run("bonesoup", "verify").status == 0

    adapter = next((project.folder / "out/policies/backbones/backbone-1").glob("adapter_model.safetensors"))
    (same,) = [path for path in cached(project) if path.read_bytes() == adapter.read_bytes()]
    flip(same)
    verified = project.run("bonesoup", "verify")
    assert verified.status == 1
    assert same.parent.name + same.name in verified.output
    assert "damaged: 1 objects of the DVC cache; `bonesoup verify --restore`" in verified.output

    restored = project.run("bonesoup", "verify", "--restore")
    assert restored.status == 0, restored.output
    assert "restored from the remote: 1 objects" in restored.output
    assert same.read_bytes() == adapter.read_bytes()
    # What DVC takes from its cache is whole again.
    shutil.rmtree(project.folder / "out/policies/backbones")
    assert project.run("dvc", "checkout").status == 0
    assert project.repro("report").ran == []


def test_a_version_is_rebuilt_bit_for_bit(finished, tmp_path):
    into = tmp_path / "rebuilt"
    rebuilt = finished.project.run("bonesoup", "rebuild", "1", "--into", str(into))
    assert rebuilt.status == 0, rebuilt.output
    assert "the adapters equal those of bonesoup-soup/1, bit for bit" in rebuilt.output
    before, after = finished.project.files("out/policies"), files(into / "out/policies")
    assert {name for name in before if name.endswith(".safetensors")}
    assert after == before
    rows = re.findall(r"^│ (\S+) +│ (\S+) +│ \w+ +│ \w* +│ (\w+(?: \w+)?) +│$", rebuilt.output, re.MULTILINE)
    # The page of the data's validation holds the time it was made.
    assert [row for row in rows if row[2] != "same"] == [("prepare", "out/docs/data", "differs")]
    assert {"sft", "policy@backbones", "front@bone", "report", "adapter"} <= {row[0] for row in rows}
    assert not (into / "var/mlflow.db").exists(), "nothing is registered"

    again = finished.project.run("bonesoup", "rebuild", "1", "--into", str(into))
    assert again.status == 1
    assert "exists already" in again.output


def files(top: Path) -> dict[str, bytes]:
    return {str(p.relative_to(top)): p.read_bytes() for p in sorted(top.rglob("*")) if p.is_file()}


def test_clean_keeps_the_champion_and_frees_the_rest(project):
    """Three states of the pipeline; the first is champion, the last is in the workspace."""
    for bootstrap in (60, 70, 80):
        project.set(evaluation__bootstrap=bootstrap)
        assert project.repro().status == 0
    promoted = project.run("bonesoup", "promote", "1", "--force", "--reason", "the first")
    assert promoted.status == 0, promoted.output
    (project.folder / "out/policies/renamed").mkdir()

    before = files(project.folder)
    dry = project.run("bonesoup", "clean", "--keep", "1")
    assert dry.status == 0, dry.output
    assert "bonesoup-soup/2" in dry.output
    assert "bonesoup-soup/1" not in dry.output
    assert "bonesoup-backbone-1/2" in dry.output
    assert "out/policies/renamed" in dry.output
    assert "Nothing was deleted" in dry.output
    assert content(before) == content(files(project.folder))

    cleaned = project.run("bonesoup", "clean", "--keep", "1", "--yes")
    assert cleaned.status == 0, cleaned.output
    assert sum(map(len, files(project.folder).values())) < 0.9 * sum(map(len, before.values()))
    checked = project.run("bonesoup", "verify", "@champion", "3", "bonesoup-backbone-1/3", "bonesoup-merged-balanced/3")
    assert checked.status == 0, checked.output
    assert "are not in the local cache" not in checked.output
    assert project.run("bonesoup", "verify", "2").status == 1
    assert project.repro().ran == [], "the workspace is as it was"
    again = project.run("bonesoup", "clean", "--keep", "1")
    assert len(re.findall(r"│ 0 +│ 0 +│", again.output)) == 5, again.output


def content(files: dict[str, bytes]) -> dict[str, bytes]:
    """Read a folder without the traces of reading: locks, the state of DVC, sqlite's bookkeeping."""
    aside = (".dvc/tmp/", "var/mlflow.db", "scratch/", ".git/")
    return {name: data for name, data in files.items() if not name.startswith(aside)}
