"""Find folders that the present settings do not use, and processes at work here."""

import contextlib
import fcntl
import time
from pathlib import Path

from bonesoup.files import read_json
from bonesoup.paths import POLICIES, RIC, SCRATCH, STUDIES

TRAINED = SCRATCH / "policies"
# Rewards and fronts keep their state until they are in out/, features for the next heads on the same base.
OTHERS = [SCRATCH / "rewards", SCRATCH / "fronts", SCRATCH / "features"]
# Nobody will resume interrupted work this long after it last wrote anything.
RESUMABLE_DAYS = 7
DVC_LOCK = Path(".dvc/tmp/lock")


def holder(lock: Path) -> str | None:
    """Return the process that holds a lock file, "another process" if the file does not name it; None if none does."""
    if not lock.is_file():
        return None
    with open(lock) as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return handle.read().strip() or "another process"
    return None


def at_work(root: Path) -> list[str]:
    """List what is running in a project: stages, DVC, and studies, whose results are in the same cache."""
    locks = [*sorted((root / SCRATCH).glob("*.lock")), *sorted((root / TRAINED).glob("*.lock")), root / DVC_LOCK]
    locks += sorted((root / STUDIES).glob("*/lock"))
    return [f"process {process} holds {lock}" for lock in locks if (process := holder(lock))]


def used_fingerprints(roots: list[Path]) -> set[str]:
    """Return the fingerprints of the policies in out/ and of RiC's model."""
    files = [file for root in roots for file in (root / POLICIES).glob("*/*/policy.json")]
    files += [root / RIC / "ric.json" for root in roots if (root / RIC / "ric.json").is_file()]
    return {read_json(file).get("fingerprint") for file in files}


def stale_scratch(root: Path, used: set[str]) -> list[Path]:
    """List folders in scratch/ of which nothing is in out/ and which nobody trains in or will resume."""
    oldest = time.time() - RESUMABLE_DAYS * 86400
    others = [folder for parent in OTHERS for folder in (root / parent).glob("*/") if newest(folder) < oldest]
    return sorted(others) + sorted(
        folder
        for folder in (root / TRAINED).glob("*/")
        if folder.name not in used
        and not holder(folder.with_suffix(".lock"))
        and ((folder / "adapter").is_dir() or (folder / "ric").is_dir() or newest(folder) < oldest)
    )


def newest(folder: Path) -> float:
    """Return the time at which anything in a folder was last written; now, if it vanishes meanwhile."""
    times = []
    for path in [folder, *folder.rglob("*")]:
        # Work in progress renames files, and links may lead to files that the store has deleted since.
        with contextlib.suppress(FileNotFoundError):
            times.append(path.lstat().st_mtime)
    return max(times, default=time.time())
