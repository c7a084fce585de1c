"""Objects of a real DVC cache: reported as sound, damaged or missing, and fetched from a remote in a local folder."""

from pathlib import Path

import pytest

from bonesoup.upkeep import verify
from bonesoup.workspace import dvc_lock, objects


@pytest.fixture
def stored(tracked, tmp_path) -> Path:
    """Return the project with all its objects in a remote."""
    objects.dvc(tracked, "remote", "add", "--default", "store", str(tmp_path / "remote"))
    objects.dvc(tracked, "push")
    return tracked


def outs(root: Path) -> dict[str, str]:
    return {out.path: out.name for out in dvc_lock.outs(root / "dvc.lock")}


def corrupt(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)


def test_all_objects_of_a_lock_are_read(tracked):
    verified = verify.workspace(tracked, objects.cache(tracked))
    assert not verified.damaged
    assert len(verified.objects.sound) == 4, "two results, and the two files of the folder"
    assert not verified.objects.missing


def test_damaged_and_missing_objects_are_told_apart(tracked):
    cache, named = objects.cache(tracked), outs(tracked)
    folder = named["out/policies"]
    files = objects.files(cache, folder)
    assert files.keys() == {"a.json", "b/c.json"}
    corrupt(objects.object_path(cache, files["a.json"]))
    objects.object_path(cache, named["out/report.json"]).unlink()
    states = verify.workspace(tracked, cache).objects
    assert states.corrupted.keys() == {files["a.json"]}
    assert states.missing == {named["out/report.json"]}
    assert states.sound == {folder, files["b/c.json"]}


def test_a_damaged_folder_object_is_restored(stored):
    cache, folder = objects.cache(stored), outs(stored)["out/policies"]
    corrupt(objects.object_path(cache, folder))
    damaged = verify.workspace(stored, cache)
    assert damaged.objects.corrupted.keys() == {folder}, "which files it names is not known then"
    done = verify.restore(stored, cache, [damaged])
    assert (done.back, done.lost, done.reason) == ({folder}, frozenset(), None)
    assert not verify.workspace(stored, cache).damaged


def test_results_that_hold_the_damage_are_made_again_and_own_edits_are_kept(stored):
    cache = objects.cache(stored)
    name = objects.files(cache, outs(stored)["out/policies"])["a.json"]
    corrupt(objects.object_path(cache, name))
    corrupt(stored / "out/policies/a.json")
    (stored / "out/report.json").write_text("edited")
    done = verify.restore(stored, cache, [verify.workspace(stored, cache)])
    assert done.outs == ["out/policies"]
    assert (stored / "out/policies/a.json").read_text() == "content of policies/a.json"
    assert (stored / "out/report.json").read_text() == "edited"


def test_missing_objects_are_fetched_too(stored):
    cache = objects.cache(stored)
    for path in list(cache.rglob("*")):
        if path.is_file():
            path.unlink()
    missing = verify.workspace(stored, cache)
    assert not missing.damaged, "what is not here is not damaged"
    done = verify.restore(stored, cache, [missing])
    assert done.back == set(outs(stored).values())
    assert len(verify.workspace(stored, cache).objects.sound) == 4


def test_what_the_remote_has_damaged_itself_is_lost(stored, tmp_path):
    cache, name = objects.cache(stored), outs(stored)["out/report.json"]
    corrupt(objects.object_path(cache, name))
    corrupt(objects.object_path(tmp_path / "remote/files/md5", name))
    done = verify.restore(stored, cache, [verify.workspace(stored, cache)])
    assert (done.back, done.lost) == (frozenset(), {name})


def test_without_a_remote_a_damaged_object_is_lost_and_it_is_said_why(tracked):
    cache, name = objects.cache(tracked), outs(tracked)["out/report.json"]
    corrupt(objects.object_path(cache, name))
    done = verify.restore(tracked, cache, [verify.workspace(tracked, cache)])
    assert (done.lost, done.reason) == ({name}, "no default DVC remote is set")


def test_what_dvc_says_of_a_remote_that_does_not_work_is_passed_on(tracked, tmp_path):
    (tmp_path / "file").write_text("")
    objects.dvc(tracked, "remote", "add", "--default", "store", str(tmp_path / "file/remote"))
    name = outs(tracked)["out/report.json"]
    objects.object_path(objects.cache(tracked), name).unlink()
    assert "Not a directory" in objects.fetch(tracked, [name])


def test_a_stand_in_has_the_remotes_of_its_project_wherever_it_lies(tracked):
    """A relative path in the config is relative to the project's, not to that of the stand-in."""
    objects.dvc(tracked, "remote", "add", "--default", "store", "../storage")
    objects.dvc(tracked, "push")
    cache, name = objects.cache(tracked), outs(tracked)["out/report.json"]
    objects.object_path(cache, name).unlink()
    assert objects.fetch(tracked, [name]) is None
    assert objects.examine(cache, [name]).sound == {name}
