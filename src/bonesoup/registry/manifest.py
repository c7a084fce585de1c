"""Write the list of a version's files at registration, and compare the files with it later."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import mlflow
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from requests.exceptions import RequestException

from bonesoup.files import file_digest, read_json, write_json
from bonesoup.registry import bases
from bonesoup.registry.store import Store
from bonesoup.registry.versions import reference

# {relative path: SHA-256} of every other file.
MANIFEST = Path("lineage/manifest.json")
MISSING = ": missing"
LOST_BASE = "its base "
SHOWN = 5


@dataclass(frozen=True)
class Files:
    """The state of a version's files.

    Attributes:
        faults: one line each; empty if every file is as registered.
        listed: the registry holds the digest of their list; without it the list itself could have changed.
    """

    faults: tuple[str, ...]
    listed: bool

    @property
    def missing(self) -> bool:
        return any(fault.endswith(MISSING) or fault.startswith(LOST_BASE) for fault in self.faults)

    @property
    def text(self) -> str:
        more = f" and {len(self.faults) - SHOWN} more" if len(self.faults) > SHOWN else ""
        return ", ".join(self.faults[:SHOWN]) + more


def write(folder: Path) -> None:
    """Write the list into a version's folder."""
    write_json(folder / MANIFEST, {name: file_digest(folder / name) for name in names(folder)})


def names(folder: Path) -> list[str]:
    """List the files that the manifest covers, without a linked base.

    Compiled Python is left out: loading a version writes it there.
    """
    every = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return [name for name in every if name not in (MANIFEST.as_posix(), bases.ADDED) and "__pycache__/" not in name]


def check(folder: Path, digest: str | None) -> list[str]:
    """Compare a version's files with their list; return a line for each that is missing, added or changed.

    Args:
        digest: SHA-256 of the list from the registry; None if it has none.
    """
    listing = folder / MANIFEST
    if not listing.is_file():
        return [f"{MANIFEST}{MISSING}"]
    if digest and file_digest(listing) != digest:
        return [f"{MANIFEST}: changed"]
    expected, present = read_json(listing), set(names(folder))
    faults = [f"{name}{MISSING}" for name in sorted(expected.keys() - present)]
    faults += [f"{name}: not in the list" for name in sorted(present - expected.keys())]
    changed = [name for name in sorted(present & expected.keys()) if file_digest(folder / name) != expected[name]]
    return faults + [f"{name}: changed" for name in changed]


def faults(version: ModelVersion, folder: Path, work: Path) -> list[str]:
    """Compare a version's downloaded files with their list, and link its base; return a line for each fault."""
    lines = check(folder, version.tags.get("manifest"))
    if not lines:
        try:
            bases.complete(folder, work)
        except bases.Missing as error:
            lines.append(str(error))
    return lines


def inspect(store: Store, version: ModelVersion, work: Path) -> Files:
    """Download a version's files into `work`, compare them with their list, and bring its base.

    Raises:
        MlflowException: the store itself does not answer.
    """
    digest = version.tags.get("manifest")
    nothing = Files((f"its files in the store{MISSING}",), digest is not None)
    try:
        folder = download_files(version, work)
    except (MlflowException, RequestException, FileNotFoundError):
        # An unreachable store raises here too, which is no fault of the version.
        store.client.get_registered_model(version.name)
        return nothing
    if not names(folder):
        # Some stores return an empty folder for one that does not exist.
        return nothing
    if digest is None and not (folder / MANIFEST).is_file():
        return Files((), False)
    return Files(tuple(faults(version, folder, work)), digest is not None)


def download(version: ModelVersion, work: Path) -> Path:
    """Download a version's files and its base into folders under `work`; a second call reuses them.

    Raises:
        ValueError: the registry has no intact copy of its base.
    """
    folder = download_files(version, work)
    try:
        bases.complete(folder, work)
    except bases.Missing as error:
        raise ValueError(f"{reference(version)}: {error}") from None
    return folder


def download_files(version: ModelVersion, work: Path) -> Path:
    """Download a version's files into a separate folder under `work`; a second call reuses it."""
    folder = work / f"{version.name}-{version.version}"
    if not folder.is_dir():
        try:
            mlflow.artifacts.download_artifacts(f"models:/{reference(version)}", dst_path=str(folder))
        except BaseException:
            # The next call would take a partial download for a complete one.
            shutil.rmtree(folder, ignore_errors=True)
            raise
    return folder


def download_lineage(version: ModelVersion, work: Path) -> Path:
    """Download only the record of how a version was made into `work`."""
    return Path(mlflow.artifacts.download_artifacts(f"models:/{reference(version)}/lineage", dst_path=str(work)))
