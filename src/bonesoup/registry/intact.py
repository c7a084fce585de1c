"""Whether the store still has a version's files as they were registered."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import mlflow
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from requests.exceptions import RequestException

from bonesoup.registry import manifest
from bonesoup.registry.names import reference
from bonesoup.registry.store import Store

MISSING = ": missing"
SHOWN = 5


@dataclass(frozen=True)
class Files:
    """What a look at a version's files found.

    Attributes:
        faults: one line each; none where all are as they were.
        listed: whether the registry keeps the digest of their list; without it nothing vouches for them.
    """

    faults: tuple[str, ...]
    listed: bool

    @property
    def missing(self) -> bool:
        return any(fault.endswith(MISSING) for fault in self.faults)

    @property
    def text(self) -> str:
        more = f" and {len(self.faults) - SHOWN} more" if len(self.faults) > SHOWN else ""
        return ", ".join(self.faults[:SHOWN]) + more


def look(store: Store, version: ModelVersion, work: Path) -> Files:
    """Download a version's files into `work` and hold them against their list.

    Raises:
        MlflowException: the store itself does not answer.
    """
    digest = version.tags.get("manifest")
    nothing = Files((f"its files in the store{MISSING}",), digest is not None)
    try:
        folder = download(version, work)
    except (MlflowException, RequestException, FileNotFoundError):
        # A store that is gone raises here too, and that is no fault of the version.
        store.client.get_registered_model(version.name)
        return nothing
    if not manifest.files(folder):
        # What some stores give for a folder that is not there.
        return nothing
    if digest is None and not (folder / manifest.MANIFEST).is_file():
        return Files((), False)
    return Files(tuple(manifest.check(folder, digest)), digest is not None)


def download(version: ModelVersion, work: Path) -> Path:
    """A version's files in a folder of their own under `work`; downloaded once."""
    folder = work / f"{version.name}-{version.version}"
    if not folder.is_dir():
        try:
            mlflow.artifacts.download_artifacts(f"models:/{reference(version)}", dst_path=str(folder))
        except BaseException:
            # Half of them would be taken for all of them the next time.
            shutil.rmtree(folder, ignore_errors=True)
            raise
    return folder
