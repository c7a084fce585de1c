"""`dvc gc` that knows what registered versions and checkouts need beside the workspace."""

import tempfile
from pathlib import Path

from mlflow.entities.model_registry import ModelVersion

from bonesoup.checkout import CHECKOUTS
from bonesoup.upkeep import objects
from bonesoup.upkeep.verify import LOCK, download

REMOVING = "Removing "


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


def unused(root: Path, names: set[str]) -> list[Path]:
    """Objects that neither the workspace nor a checkout uses and that are not among `names`, as DVC finds them.

    Raises:
        RuntimeError: DVC is at work here or in a checkout, or cannot read one of them.
    """
    said = _gc(root, names, "--dry")
    return [Path(line.removeprefix(REMOVING)) for line in said.splitlines() if line.startswith(REMOVING)]


def collect(root: Path, names: set[str]) -> None:
    """Delete them."""
    _gc(root, names, "--force")


def _gc(root: Path, names: set[str], *options: str) -> str:
    with objects.stand_in(root, names) as folder:
        projects = [str(folder), *map(str, checkouts(root))]
        return objects.dvc(root, "gc", "--workspace", *options, "--projects", *projects)
