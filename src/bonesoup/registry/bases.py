"""The bases of registered versions: each lies in the registry once, and versions name it by the SHA-256 of its files.

A base is a version of `<name>-base`, where <name> is the project that sent it first; its files lie in a run of that
project. A registry can hold it twice only if two registrations send it at the same moment.
"""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from requests.exceptions import RequestException
from ruamel.yaml import YAML

from bonesoup.files import appearing, file_digest
from bonesoup.paths import SFT
from bonesoup.registry import runs
from bonesoup.registry.lineage import Code
from bonesoup.registry.store import Store
from bonesoup.registry.versions import ensure_model, reference

# Tag of a version and entry of its model_config: the digest of its base.
BASE = "base"
# Kind, and folder in the run; and the tag with its digest.
KIND, DIGEST = "base", "digest"
# Tag `stage` of the run; the pipeline has a stage `base`.
STAGE = "registered base"
SHA256 = re.compile(r"[0-9a-f]{64}")
# The base among a version's files. Early versions have it there; the others get a link when they are downloaded.
PLACE = Path("artifacts") / SFT.name
# MLflow adds this file to each download.
ADDED = "registered_model_meta"


class Missing(ValueError):
    """The registry has no intact copy of a base."""


def model_name(prefix: str) -> str:
    """Return the registered name of a project's bases; `prefix` is register.name."""
    return f"{prefix}-base"


def copies(client: MlflowClient, digest: str) -> list[ModelVersion]:
    """List the registry's copies of a base, in any project, newest first."""
    have = client.search_model_versions(f"tags.kind = '{KIND}' AND tags.{DIGEST} = '{digest}'")
    return sorted(have, key=lambda version: version.creation_timestamp, reverse=True)


def publish(
    store: Store, prefix: str, folder: Path, digest: str, code: Code, echo: Callable[[str], None]
) -> ModelVersion:
    """Send a base unless the registry has it; return its version.

    A damaged copy is sent again, see `_whole`. A version is created after its files, so an upload that was cut short is
    no version yet and is done again, in its run.

    Args:
        digest: SHA-256 of `folder`.
    """
    client = store.client
    files = (path for path in folder.rglob("*") if path.is_file())
    expected = {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}
    have = copies(client, digest)
    for version in have:
        if _whole(client, version, digest, expected):
            return version
    run = runs.opened(store, f"base {digest[:8]}", digest, runs.tags(STAGE, digest, code))
    run_id = run.info.run_id
    client.log_artifacts(run_id, str(folder), KIND)
    client.set_terminated(run_id, "FINISHED")
    version = next((version for version in have if version.run_id == run_id), None)
    if version is None:
        ensure_model(client, model_name(prefix), KIND)
        tags = {DIGEST: digest, "kind": KIND, "bytes": str(sum(expected.values()))}
        version = client.create_model_version(model_name(prefix), f"runs:/{run_id}/{KIND}", run_id, tags=tags)
    echo(f"{reference(version)}: base sent, {sum(expected.values()) / 1e6:.1f} MB")
    return version


def _whole(client: MlflowClient, version: ModelVersion, digest: str, expected: dict[str, int]) -> bool:
    """Return True if a copy is intact: in a file store by its content, elsewhere by names and sizes of its files."""
    try:
        uri = client.get_run(version.run_id).info.artifact_uri
        place = local_folder(uri)
        if place and (place / KIND).is_dir():
            return file_digest(place / KIND) == digest
        return sizes(f"{uri}/{KIND}") == expected
    except MlflowException:
        return False  # its run is gone, or its files cannot be listed


def named(folder: Path) -> str | None:
    """Return the digest of the base that a version's files name; None for merged weights and early versions.

    Raises:
        ValueError: it is not a SHA-256.
    """
    config = YAML(typ="safe").load(folder / "MLmodel")["flavors"]["python_function"]["config"]
    digest = config.get(BASE)
    if digest is not None and not SHA256.fullmatch(str(digest)):
        raise ValueError(f"{folder / 'MLmodel'} names the base {digest!r}, which is not a SHA-256")
    return digest


def of(folder: Path, work: Path) -> Path | None:
    """Fetch the base that a version's files name into `work`; None if they have all weights themselves.

    Raises:
        Missing: see `fetch`.
    """
    digest = named(folder)
    return None if digest is None or (folder / PLACE).is_dir() else fetch(digest, work)


def complete(folder: Path, work: Path) -> None:
    """Link the base into a version's downloaded files, where recipes expect it.

    Raises:
        Missing: see `fetch`.
    """
    if base := of(folder, work):
        (folder / PLACE).symlink_to(base.absolute())


def fetch(digest: str, work: Path) -> Path:
    """Bring a base into the folder `work/bases`, check it, and return its path; a second call reuses it.

    A file store's files are linked instead of copied.

    Raises:
        Missing: no copy in the registry has this digest; says what to do.
    """
    folder = work / "bases" / digest
    if folder.is_dir():
        return folder
    reasons = []
    for version in copies(MlflowClient(), digest):
        try:
            with appearing(folder) as temporary:
                _download(version, temporary)
                if (now := file_digest(temporary)) != digest:
                    raise Missing(f"{reference(version)} has SHA-256 {now}")
            return folder
        except Missing as error:
            reasons.append(str(error))
        except (MlflowException, RequestException, OSError) as error:
            reasons.append(f"{reference(version)} cannot be read: {str(error).splitlines()[0]}")
    raise Missing(
        f"its base with SHA-256 {digest} is not whole in the registry ({'; '.join(reasons) or 'no copy there'}): "
        "`bonesoup register` in the folder of its run, or of its rebuild, sends it again; behind a server that stores "
        "the files elsewhere, delete a damaged version in MLflow first"
    )


def faults(version: ModelVersion, folder: Path) -> list[str]:
    """Compare the files of a base's version with its digest; return a line if they differ."""
    (folder / ADDED).unlink(missing_ok=True)
    now, digest = file_digest(folder), version.tags[DIGEST]
    return [f"its files have SHA-256 {now}, registered was {digest}"] if now != digest else []


def _download(version: ModelVersion, into: Path) -> None:
    place = local_folder(MlflowClient().get_run(version.run_id).info.artifact_uri)
    if place and (place / KIND).is_dir():
        shutil.copytree(place / KIND, into, copy_function=os.symlink, ignore=shutil.ignore_patterns(ADDED))
    else:
        mlflow.artifacts.download_artifacts(f"models:/{reference(version)}", dst_path=str(into))
        (into / ADDED).unlink(missing_ok=True)


def sizes(uri: str) -> dict[str, int]:
    """Map the files at a URI, by relative path, to their sizes in bytes.

    Raises:
        MlflowException: they cannot be listed.
    """
    repository, listed, todo = get_artifact_repository(uri), {}, [None]
    while todo:
        for item in repository.list_artifacts(todo.pop()):
            if item.is_dir:
                todo.append(item.path)
            else:
                listed[item.path] = item.file_size or 0
    return listed


def local_folder(uri: str) -> Path | None:
    """Return the folder that a URI names on this machine; None if it names another place."""
    parts = urlsplit(uri)
    return Path(url2pathname(parts.path)) if parts.scheme in ("", "file") else None
