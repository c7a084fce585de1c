"""Lineage: a version records the commit that made it, and whether anything was changed since."""

import subprocess

from bonesoup.registry.lineage import code


def git(folder, *arguments: str) -> None:
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, capture_output=True, check=True)


def test_changes_are_named_and_a_tree_that_git_cannot_compare_is_not_called_clean(tmp_path):
    assert code(tmp_path).commit == "unknown"
    git(tmp_path, "init", "--quiet")
    (tmp_path / "a.py").write_text("a = 1\n")
    (tmp_path / "params.yaml").write_text("seed: 0\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "start")
    (tmp_path / "params.yaml").write_text("seed: 1\n")
    assert not code(tmp_path).dirty, "settings are recorded whole"
    (tmp_path / "a.py").write_text("a = 2\n")
    assert "+a = 2" in code(tmp_path).changes
    git(tmp_path, "checkout", "--quiet", "a.py")
    (tmp_path / ".git/index").write_bytes(b"not an index")
    assert code(tmp_path).dirty
