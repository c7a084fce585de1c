"""A version's list of its own files: lineage/manifest.json, {relative path: SHA-256}."""

from pathlib import Path

from bonesoup.files import file_digest, read_json, write_json

MANIFEST = Path("lineage/manifest.json")
# MLflow adds it to what it downloads.
ADDED = "registered_model_meta"


def write(folder: Path) -> None:
    write_json(folder / MANIFEST, {name: file_digest(folder / name) for name in files(folder)})


def check(folder: Path, digest: str | None) -> list[str]:
    """What is wrong with a version's files, one line each; nothing where all are as they were.

    Args:
        digest: of the list, as the registry keeps it; None where it keeps none.
    """
    listing = folder / MANIFEST
    if not listing.is_file():
        return [f"{MANIFEST}: missing"]
    if digest and file_digest(listing) != digest:
        return [f"{MANIFEST}: changed"]
    expected = read_json(listing)
    found = set(files(folder))
    faults = [f"{name}: missing" for name in sorted(expected.keys() - found)]
    faults += [f"{name}: not in the list" for name in sorted(found - expected.keys())]
    changed = [name for name in sorted(found & expected.keys()) if file_digest(folder / name) != expected[name]]
    return faults + [f"{name}: changed" for name in changed]


def files(folder: Path) -> list[str]:
    """What the list is about; compiled Python is not: loading a version writes it there."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return [name for name in names if name not in (MANIFEST.as_posix(), ADDED) and "__pycache__/" not in name]
