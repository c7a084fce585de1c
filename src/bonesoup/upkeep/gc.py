"""`dvc gc` that also knows what registered versions, checkouts and the git history need."""

import re
import subprocess
import tempfile
from pathlib import Path

from mlflow.entities.model_registry import ModelVersion

from bonesoup.paths import STUDIES
from bonesoup.registry.manifest import download_lineage
from bonesoup.workspace import dvc_lock, objects
from bonesoup.workspace.checkout import CHECKOUTS, git

REMOVING = "Removing "
# Matches *.dvc files of any schema, even damaged ones: keeping too much does no harm.
NAMED = re.compile(rb"\bmd5:\s*['\"]?([0-9a-f]{32}(?:\.dir)?)")


def checkouts(root: Path) -> list[Path]:
    """List the clones that use a project's cache: checkouts of flows, and cells of unfinished studies."""
    folders = [*(root / CHECKOUTS).glob("*/.dvc"), *(root / STUDIES).glob("*/*/.dvc")]
    return sorted(folder.parent for folder in folders)


def shared_cache(root: Path) -> Path | None:
    """Return the DVC cache if it lies outside the repository, where others may need its objects; else None."""
    cache = objects.cache(root).resolve()
    return None if cache.is_relative_to((root / ".dvc").resolve()) else cache


def needed(root: Path, kept: list[ModelVersion]) -> set[str]:
    """Return the local cache's objects that a kept version's dvc.lock names: its results and its tracked data."""
    named = set()
    for version in kept:
        with tempfile.TemporaryDirectory(prefix="bonesoup-") as work:
            named |= dvc_lock.named(download_lineage(version, Path(work)) / dvc_lock.LOCK)
    return _present(root, named)


def _present(root: Path, names: set[str]) -> set[str]:
    cache = objects.cache(root)
    return {name for name in names if objects.object_path(cache, name).is_file()}


def tracked(root: Path) -> set[str]:
    """Return the local cache's objects that a *.dvc file of any commit names: data, which no stage can make again.

    Commits are those of branches, tags and stashes, and those in git's reflog.

    Raises:
        RuntimeError: git cannot read its history.
    """
    root = root.absolute()
    if not any((folder / ".git").exists() for folder in (root, *root.parents)):
        return set()
    walk = ["--all", "--reflog", "--full-history", "--root", "-m"]
    raw = git(root, "log", *walk, "--format=", "--raw", "--no-abbrev", "--no-renames", "--", "*.dvc")
    # A line holds modes before and after, blobs before and after, the kind of change, and the path.
    blobs = sorted({line.split()[3] for line in raw.splitlines()})
    read = subprocess.run(
        ["git", "cat-file", "--batch"], cwd=root, input="\n".join(blobs).encode(), capture_output=True, check=False
    )
    if read.returncode:
        raise RuntimeError(f"git cat-file failed in {root}: {read.stderr.decode(errors='replace').strip()}")
    return _present(root, {name.decode() for name in NAMED.findall(read.stdout)})


def unused(root: Path, names: set[str]) -> list[Path]:
    """List the objects that neither the workspace, a checkout, a *.dvc file of a commit nor `names` refers to.

    Raises:
        RuntimeError: DVC is running here or in a checkout, or cannot read one of them; or git cannot read its history.
    """
    lines = _gc(root, names, "--dry").splitlines()
    return [Path(line.removeprefix(REMOVING)) for line in lines if line.startswith(REMOVING)]


def collect(root: Path, names: set[str]) -> None:
    """Delete the objects that `unused` lists."""
    _gc(root, names, "--force")


def _gc(root: Path, names: set[str], *options: str) -> str:
    with objects.stand_in(root, names | tracked(root)) as folder:
        projects = [str(folder), *map(str, checkouts(root))]
        return objects.dvc(root, "gc", "--workspace", *options, "--projects", *projects)
