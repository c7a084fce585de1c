"""`dvc gc` that knows what registered versions, checkouts and the git history need beside the workspace."""

import re
import subprocess
import tempfile
from pathlib import Path

from mlflow.entities.model_registry import ModelVersion

from bonesoup.upkeep.verify import LOCK, download
from bonesoup.workspace import objects
from bonesoup.workspace.checkout import CHECKOUTS, git

REMOVING = "Removing "
# In the text of a *.dvc file of any schema, a damaged one too: too much kept does no harm.
NAMED = re.compile(rb"\bmd5:\s*['\"]?([0-9a-f]{32}(?:\.dir)?)")


def checkouts(root: Path) -> list[Path]:
    return sorted(folder.parent for folder in (root / CHECKOUTS).glob("*/.dvc"))


def shared_cache(root: Path) -> Path | None:
    """The DVC cache where it lies outside the repository, so that others may need what is in it."""
    cache = objects.cache(root).resolve()
    return None if cache.is_relative_to((root / ".dvc").resolve()) else cache


def needed(root: Path, kept: list[ModelVersion]) -> set[str]:
    """Objects of the local cache that the dvc.lock of a kept version names: its results and its tracked data."""
    cache = objects.cache(root)
    found = set()
    for version in kept:
        with tempfile.TemporaryDirectory(prefix="bonesoup-") as work:
            folder = download(version, Path(work), "lineage")
            if (folder / LOCK).is_file():
                found |= objects.named((folder / LOCK).read_text())
    return {name for name in found if objects.place(cache, name).is_file()}


def tracked(root: Path) -> set[str]:
    """Objects of the local cache that a *.dvc file names in any commit: data, which no stage can make again.

    Commits of all branches, tags and stashes, and those that git still knows from its reflog.

    Raises:
        RuntimeError: git cannot read its history.
    """
    root = root.absolute()
    if not any((folder / ".git").exists() for folder in (root, *root.parents)):
        return set()
    walk = ["--all", "--reflog", "--full-history", "--root", "-m"]
    raw = git(root, "log", *walk, "--format=", "--raw", "--no-abbrev", "--no-renames", "--", "*.dvc")
    # A line: modes before and after, blobs before and after, what happened, path.
    blobs = sorted({line.split()[3] for line in raw.splitlines()})
    read = subprocess.run(
        ["git", "cat-file", "--batch"], cwd=root, input="\n".join(blobs).encode(), capture_output=True, check=False
    )
    if read.returncode:
        raise RuntimeError(f"git cat-file failed in {root}: {read.stderr.decode(errors='replace').strip()}")
    cache = objects.cache(root)
    found = {name.decode() for name in NAMED.findall(read.stdout)}
    return {name for name in found if objects.place(cache, name).is_file()}


def unused(root: Path, names: set[str]) -> list[Path]:
    """Objects that DVC finds used by no workspace, checkout or *.dvc file of a commit, and that are not among `names`.

    Raises:
        RuntimeError: DVC is at work here or in a checkout, or cannot read one of them; or git cannot read its history.
    """
    said = _gc(root, names, "--dry")
    return [Path(line.removeprefix(REMOVING)) for line in said.splitlines() if line.startswith(REMOVING)]


def collect(root: Path, names: set[str]) -> None:
    """Delete them."""
    _gc(root, names, "--force")


def _gc(root: Path, names: set[str], *options: str) -> str:
    with objects.stand_in(root, names | tracked(root)) as folder:
        projects = [str(folder), *map(str, checkouts(root))]
        return objects.dvc(root, "gc", "--workspace", *options, "--projects", *projects)
