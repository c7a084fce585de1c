"""Sources and refusals of a rebuild; tests/pipeline runs a whole one."""

import subprocess
from pathlib import Path

import pytest

from bonesoup.files import file_digest
from bonesoup.upkeep import rebuild
from bonesoup.upkeep.rebuild import Origin
from bonesoup.workspace import objects

SETTINGS = """
data: {path: %s}
model: {source: scratch}
rewards:
  helpful: {kind: pairs, source: out/data/rewards/helpful.jsonl}
"""
GRAPH = """
stages:
  prepare: {cmd: "true", deps: ["${data.path}"], outs: [out/data]}
"""


def git(root: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    done = subprocess.run(["git", *identity, *arguments], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def source(tmp_path) -> Path:
    """Make a repository with data in git; `code.py` and `dvc.lock` change after the commit of the versions."""
    root = tmp_path / "source"
    (root / ".dvc").mkdir(parents=True)
    (root / ".dvc/config").write_text("[core]\n    analytics = false\n")
    (root / ".dvc/.gitignore").write_text("/config.local\n/tmp\n/cache\n")
    (root / "dvc.yaml").write_text(GRAPH)
    (root / "code.py").write_text("one\n")
    (root / "rows.jsonl").write_text("rows\n")
    (root / "dvc.lock").write_text("schema: '2.0'\n")
    (root / "params.yaml").write_text(SETTINGS % "rows.jsonl")
    git(root, "init", "--quiet")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "--message", "one")
    return root


def origin(root: Path, path: str = "rows.jsonl", digest: str | None = None, changes: str = "") -> Origin:
    """Return the origin of a version made in `root` as it is now, from the data at `path`."""
    facts = {
        "git": {"commit": git(root, "rev-parse", "HEAD"), "dirty": bool(changes)},
        "sha256": {path: digest or file_digest(root / path), "out/sft": "0"},
        "policies": {},
    }
    return Origin("bonesoup-soup/7", facts, SETTINGS % path, [], changes)


def prepare(root: Path, made: Origin, into: Path) -> list[str]:
    lines = []
    rebuild.prepare(root, made, into, lines.append)
    return lines


def test_the_clone_has_the_commit_the_settings_and_no_results(source, tmp_path):
    made = origin(source)
    (source / "code.py").write_text("two\n")
    (source / "rows.jsonl").write_text("other rows\n")
    git(source, "commit", "--quiet", "--all", "--message", "two")
    into = tmp_path / "rebuilt"
    assert prepare(source, made, into) == []
    assert (into / "code.py").read_text() == "one\n"
    assert (into / "rows.jsonl").read_text() == "rows\n"
    assert (into / "params.yaml").read_text().split() == made.settings.split()
    assert not (into / "dvc.lock").exists()
    assert objects.cache(into) == into / ".dvc/cache/files/md5"
    assert git(into, "rev-parse", "HEAD") == made.facts["git"]["commit"]


@pytest.mark.slow
@pytest.mark.parametrize("gone", ["workspace", "cache"])
def test_tracked_data_comes_from_the_cache_or_the_remote(source, tmp_path, gone):
    data = source / "tracked.jsonl"
    data.write_text("the version's rows\n")
    objects.dvc(source, "remote", "add", "--default", "store", "../storage")
    objects.dvc(source, "add", "tracked.jsonl")
    objects.dvc(source, "push")
    git(source, "add", ".")
    git(source, "commit", "--quiet", "--message", "tracked")
    made = origin(source, "tracked.jsonl")
    data.chmod(0o644)
    data.write_text("rows of a later day\n")
    if gone == "cache":
        for path in [p for p in objects.cache(source).rglob("*") if p.is_file()]:
            path.unlink()
    into = tmp_path / "somewhere/else"
    prepare(source, made, into)
    assert (into / "tracked.jsonl").read_text() == "the version's rows\n"


def test_data_outside_the_repository_is_found_from_anywhere(source, tmp_path):
    (tmp_path / "outside.jsonl").write_text("rows\n")
    made = origin(source, "../outside.jsonl")
    into = tmp_path / "deep/down/rebuilt"
    assert prepare(source, made, into) == [f"data.path: {tmp_path}/outside.jsonl, which is not part of the repository"]
    assert f"path: {tmp_path}/outside.jsonl" in (into / "params.yaml").read_text()


def test_other_data_than_the_version_was_made_from_is_refused_with_both_digests(source, tmp_path):
    file = tmp_path / "outside.jsonl"
    file.write_text("rows\n")
    made = origin(source, "../outside.jsonl")
    file.write_text("other rows\n")
    with pytest.raises(ValueError, match="outside.jsonl has SHA-256") as refusal:
        prepare(source, made, tmp_path / "rebuilt")
    assert file_digest(file) in str(refusal.value)
    assert made.data["../outside.jsonl"] in str(refusal.value)
    assert not (tmp_path / "rebuilt").exists()


def test_changes_beside_the_commit_are_applied(source, tmp_path):
    (source / "code.py").write_text("one, changed\n")
    (source / "new.py").write_text("untracked\n")
    changes = f"{git(source, 'status', '--porcelain')}\n\n{git(source, 'diff', 'HEAD')}\n"
    made = origin(source, changes=changes)
    git(source, "checkout", "--quiet", "code.py")
    assert prepare(source, made, tmp_path / "rebuilt") == [
        "files that git did not track are not part of the version: new.py",
        "the uncommitted changes of the tree are applied",
    ]
    assert (tmp_path / "rebuilt/code.py").read_text() == "one, changed\n"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            "diff --git a/gone.py b/gone.py\n--- a/gone.py\n+++ b/gone.py\n@@ -1 +1 @@\n-a\n+b\n",
            "do not apply: .*gone.py",
        ),
        (" M code.py\n\ndiff --git a/code.py b/code.py\n\n... cut: the diff has 2000000 characters\n", "too long"),
    ],
)
def test_changes_that_cannot_be_applied_are_refused(source, tmp_path, changes, reason):
    with pytest.raises(ValueError, match=f"bonesoup-soup/7 was made from a changed tree.*{reason}"):
        prepare(source, origin(source, changes=changes), tmp_path / "rebuilt")
    assert not (tmp_path / "rebuilt").exists()


def test_a_commit_that_is_not_here_is_refused(source, tmp_path):
    made = origin(source)
    made.facts["git"]["commit"] = "0123456789" * 4
    with pytest.raises(ValueError, match="made from commit 0123456789.*does not have: `git fetch` it"):
        prepare(source, made, tmp_path / "rebuilt")
    made.facts["git"]["commit"] = "unknown"
    with pytest.raises(ValueError, match="made outside git"):
        prepare(source, made, tmp_path / "rebuilt")


def test_a_folder_that_exists_is_left_alone(source, tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(ValueError, match="exists already"):
        prepare(source, origin(source), tmp_path / "mine")
    assert (tmp_path / "mine").is_dir()


def test_differences_of_the_environment_are_named():
    from bonesoup.registry import lineage

    now = lineage.environment()
    then = now | {"python": "3.11.1", "packages": now["packages"] | {"torch": "1.0", "gone": "2"}}
    made = Origin("bonesoup-soup/7", {"environment": then}, "", [], "")
    assert rebuild.environment_differences(made) == [
        f"python {now['python']}, was 3.11.1",
        "gone is not installed, was 2",
        f"torch {now['packages']['torch']}, was 1.0",
    ]
