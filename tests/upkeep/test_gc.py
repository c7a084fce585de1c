"""Collecting the DVC cache keeps data that any commit tracks; with real DVC and git."""

import subprocess
from pathlib import Path

import pytest

from bonesoup.upkeep import gc
from bonesoup.workspace import dvc_lock, objects


def git(root: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    subprocess.run(["git", *identity, *arguments], cwd=root, capture_output=True, check=True)


def commit(root: Path, message: str) -> None:
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", message)


@pytest.fixture
def repository(tracked) -> Path:
    """Put the project under git, which ignores results and caches."""
    (tracked / ".dvc/config").write_text("[core]\n    analytics = false\n")
    (tracked / ".gitignore").write_text("/out\n/.dvc/cache\n/.dvc/tmp\n")
    git(tracked, "init", "--quiet", "--initial-branch", "main")
    commit(tracked, "start")
    return tracked


def add(root: Path, files: dict[str, str], target: str) -> set[str]:
    """Track `target`, made of files; return the names of its objects."""
    before = stored(root)
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    objects.dvc(root, "add", "--quiet", target)
    return stored(root) - before


def stored(root: Path) -> set[str]:
    cache = objects.cache(root)
    return {"".join(path.relative_to(cache).parts) for path in cache.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_data_of_another_branch_and_of_an_earlier_commit_stays_and_results_go(repository):
    git(repository, "checkout", "--quiet", "-b", "other")
    elsewhere = add(repository, {"data/a.txt": "a of the branch", "data/deep/b.txt": "b of the branch"}, "data")
    assert len(elsewhere) == 3, "a folder and its files"
    commit(repository, "data of a branch")
    git(repository, "checkout", "--quiet", "main")
    earlier = add(repository, {"rows.txt": "first"}, "rows.txt")
    commit(repository, "rows")
    now = add(repository, {"rows.txt": "second"}, "rows.txt")
    commit(repository, "other rows")
    git(repository, "rm", "--quiet", "rows.txt.dvc")
    commit(repository, "no rows")
    results = {out.name for out in dvc_lock.outs(repository / "dvc.lock")}
    (repository / "out/report.json").write_text("another report")
    objects.dvc(repository, "commit", "--force", "--quiet")
    stale = results - {out.name for out in dvc_lock.outs(repository / "dvc.lock")}
    assert len(stale) == 1

    assert gc.unused(repository, set()) == [objects.object_path(objects.cache(repository), *stale)]
    gc.collect(repository, set())
    assert elsewhere | earlier | now <= stored(repository)
    assert not stale & stored(repository)
    git(repository, "checkout", "--quiet", "--force", "other")
    objects.dvc(repository, "checkout", "data")
    assert (repository / "data/deep/b.txt").read_text() == "b of the branch"


def test_data_that_only_a_merged_away_side_of_the_history_tracks_stays(repository):
    git(repository, "checkout", "--quiet", "-b", "side")
    dropped = add(repository, {"rows.txt": "of the side"}, "rows.txt")
    commit(repository, "rows")
    git(repository, "checkout", "--quiet", "main")
    git(repository, "commit", "--quiet", "--allow-empty", "--message", "go on")
    git(repository, "merge", "--quiet", "--strategy", "ours", "--message", "merge", "side")
    git(repository, "branch", "--quiet", "-D", "side")
    assert gc.tracked(repository) == dropped


def test_a_history_that_cannot_be_read_stops_the_collection(repository):
    add(repository, {"rows.txt": "first"}, "rows.txt")
    commit(repository, "rows")
    (repository / ".git/HEAD").write_text("nonsense")
    with pytest.raises(RuntimeError, match="git log failed in"):
        gc.tracked(repository)


def test_outside_git_there_is_no_history(tracked):
    assert gc.tracked(tracked) == set()
