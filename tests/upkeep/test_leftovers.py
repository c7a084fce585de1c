import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bonesoup.files import write_json
from bonesoup.locks import exclusive
from bonesoup.upkeep import leftovers

REPOSITORY = Path(__file__).parents[2]


def trained(root: Path, fingerprint: str, finished: bool, days: float = 0) -> Path:
    folder = root / "scratch/policies" / fingerprint
    part = folder / ("adapter" if finished else "checkpoint-4")
    part.mkdir(parents=True)
    (part / "adapter_model.safetensors").write_text("weights")
    then = time.time() - days * 86400
    for path in (part / "adapter_model.safetensors", part, folder):
        os.utime(path, (then, then))
    return folder


def test_scratch_goes_when_no_policy_has_it_and_nobody_will_resume_it(tmp_path):
    used, old = trained(tmp_path, "used", True), trained(tmp_path, "old", True)
    write_json(tmp_path / "out/policies/backbones/backbone-1/policy.json", {"fingerprint": used.name})
    interrupted, given_up = trained(tmp_path, "recent", False, days=2), trained(tmp_path, "forgotten", False, days=9)
    running = trained(tmp_path, "running", False, days=9)
    with exclusive(running.with_suffix(".lock")):
        stale = leftovers.stale_scratch(tmp_path, leftovers.used_fingerprints([tmp_path]))
    assert stale == [given_up, old]
    assert interrupted.is_dir()


def test_the_model_that_reads_rewards_is_kept_while_it_is_in_out(tmp_path):
    used, old = (tmp_path / "scratch/policies" / name for name in ("used", "old"))
    for folder in (used, old):
        write_json(folder / "ric/ric.json", {})
    write_json(tmp_path / "out/ric/ric.json", {"fingerprint": "used"})
    assert leftovers.stale_scratch(tmp_path, leftovers.used_fingerprints([tmp_path])) == [old]


@pytest.mark.parametrize("kind", ["rewards", "fronts", "features"])
def test_other_work_goes_once_nobody_will_take_it_up(tmp_path, kind):
    """Interrupted rewards and fronts, and features that no head has asked for in a week."""
    for name, days in (("old", 9), ("recent", 2)):
        file = tmp_path / "scratch" / kind / name / "part-00000.json"
        write_json(file, {})
        then = time.time() - days * 86400
        # What a deletion a week ago was locked with is no work.
        lock = file.parent.with_suffix(".lock")
        lock.touch()
        for path in (file, file.parent, lock):
            os.utime(path, (then, then))
    assert leftovers.stale_scratch(tmp_path, set()) == [tmp_path / "scratch" / kind / "old"]


def test_work_is_seen_by_its_locks(tmp_path):
    """The locks of stages and that of DVC, held by another process."""
    assert leftovers.at_work(tmp_path) == []
    stage, dvc = tmp_path / "scratch/policy@backbones.lock", tmp_path / ".dvc/tmp/lock"
    dvc.parent.mkdir(parents=True)
    hold = "import sys, zc.lockfile; l = zc.lockfile.LockFile(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
    with exclusive(stage):
        process = subprocess.Popen(
            [sys.executable, "-c", hold, str(dvc)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout.readline() == "held\n"
        working = leftovers.at_work(tmp_path)
        process.communicate("")
    assert working == [f"process {os.getpid()} holds {stage}", f"process {process.pid} holds {dvc}"]
    assert leftovers.at_work(tmp_path) == [], "a lock file that lies around means nothing"


def test_a_link_to_what_the_store_has_deleted_counts_by_its_own_time(tmp_path):
    """A killed command leaves links to a base in var/; the base may be gone when `bonesoup clean` looks at them."""
    link = tmp_path / "work-killed/bases/weights"
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "deleted")
    for path, days in ((link, 2), (link.parent, 3), (link.parents[1], 3)):
        then = time.time() - days * 86400
        os.utime(path, (then, then), follow_symlinks=False)
    assert leftovers.newest(link.parents[1]) == pytest.approx(link.lstat().st_mtime)
