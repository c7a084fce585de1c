"""Which yardstick is the current one: versions of `<name>-yardstick`, the alias `current`, and why it was given."""

import tempfile
from datetime import UTC, datetime
from pathlib import Path

import mlflow
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode

from bonesoup.registry import runs, yardstick
from bonesoup.registry.lineage import Code
from bonesoup.registry.names import aliased, versions
from bonesoup.registry.store import Store
from bonesoup.registry.yardstick import Yardstick

CURRENT = "current"
FIRST = "the first yardstick, adopted at the first registration"
FOLDER = "yardstick"
DIGEST, REASON, ADOPTED, COMMIT = "digest", "reason", "adopted", "git_commit"


def model_name(prefix: str) -> str:
    return f"{prefix}-yardstick"


def now() -> str:
    """UTC, to the microsecond, as a file name and a tag can hold it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%S.%fZ")


def current(store: Store, prefix: str) -> ModelVersion | None:
    """The adopted version; None before the first registration."""
    return aliased(store.client, model_name(prefix), CURRENT)


def load(version: ModelVersion, work: Path) -> Yardstick:
    """Download a yardstick into the folder `work`; its judges stay there.

    Raises:
        ValueError: it was changed in the store.
    """
    uri = f"models:/{version.name}/{version.version}"
    found = yardstick.read(Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(work))))
    if found.digest != version.tags[DIGEST]:
        raise ValueError(f"{uri} has digest {found.digest}, its tag says {version.tags[DIGEST]}: it was changed")
    return found


def adopt(store: Store, prefix: str, root: Path, own: Yardstick, reason: str, code: Code) -> tuple[ModelVersion, bool]:
    """Make `own` the current yardstick and record why; (its version, whether that is a change).

    A yardstick that the store has already (by digest) gets the alias back instead of a second version.

    Args:
        root: of the project whose files `own` names.
    """
    model, client = model_name(prefix), store.client
    before = current(store, prefix)
    if before and before.tags[DIGEST] == own.digest:
        return before, False
    version = next((v for v in versions(client, model) if v.tags.get(DIGEST) == own.digest), None)
    version = version or _publish(store, model, root, own, code)
    record = {
        "time": now(),
        "reason": reason,
        "version": int(version.version),
        "digest": own.digest,
        "replaces": int(before.version) if before else None,
        "git_commit": code.commit,
        "git_dirty": code.dirty,
    }
    client.log_dict(version.run_id, record, f"adoptions/{record['time']}.json")
    for key, value in ((REASON, reason), (ADOPTED, record["time"]), (COMMIT, code.commit)):
        client.set_model_version_tag(model, version.version, key, value)
    client.set_registered_model_alias(model, CURRENT, version.version)
    return client.get_model_version(model, version.version), True


def _publish(store: Store, model: str, root: Path, own: Yardstick, code: Code) -> ModelVersion:
    """A version that holds the yardstick's files; it exists whole or not at all."""
    client = store.client
    # The fingerprint lets an interrupted call go on in the run it began.
    run = runs.opened(store, f"yardstick {own.digest[:8]}", own.digest, runs.tags("yardstick", own.digest, code))
    # Not in /tmp, which may be small: judges may be large.
    work = root / "var"
    work.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="yardstick-", dir=work) as folder:
        yardstick.write(own, root, Path(folder) / FOLDER)
        client.log_artifacts(run.info.run_id, str(Path(folder) / FOLDER), FOLDER)
    client.set_terminated(run.info.run_id, "FINISHED")
    try:
        client.create_registered_model(model, {"kind": "yardstick"})
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
            raise
    tags = {DIGEST: own.digest, "kind": "yardstick", "objectives": ",".join(own.objectives)}
    tags |= {"prompts": str(len(own.prompts)), "gold": str(own.words is not None).lower()}
    return client.create_model_version(model, f"runs:/{run.info.run_id}/{FOLDER}", run.info.run_id, tags=tags)
