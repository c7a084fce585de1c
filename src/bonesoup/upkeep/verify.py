"""`bonesoup verify`: check every file of a version against its list, every object of the DVC cache against its name."""

from dataclasses import dataclass
from pathlib import Path

from mlflow.entities.model_registry import ModelVersion

from bonesoup.files import file_digest, md5, read_json, work_folder
from bonesoup.paths import SFT
from bonesoup.registry import bases, manifest
from bonesoup.registry.store import connect, nothing_lost, tracking_uri
from bonesoup.registry.versions import find, reference, soup_name
from bonesoup.workspace import objects
from bonesoup.workspace.dvc_lock import LOCK, outs
from bonesoup.workspace.objects import Objects

WORKSPACE = "workspace"
LINEAGE = "lineage/lineage.json"
ADAPTER = "adapter_model.safetensors"


@dataclass(frozen=True)
class Checked:
    """The state of a version, or of the workspace.

    Attributes:
        files: how many files the version has; those of the workspace are not read.
        faults: damaged files of the version, one line each.
        wanted: objects that its dvc.lock names.
        objects: their status in the local cache.
        listed: the version has a list of its files; early versions have none.
    """

    name: str
    files: int
    faults: list[str]
    wanted: frozenset[str]
    objects: Objects
    listed: bool = True

    @property
    def damaged(self) -> bool:
        return bool(self.faults or self.objects.corrupted)


@dataclass(frozen=True)
class Restored:
    """The outcome of a restore.

    Attributes:
        back: objects that are intact again.
        lost: corrupted objects that were removed and could not be fetched.
        reason: why the remote gave nothing; None if it answered.
        outs: results in the workspace that were checked out again from the cache.
    """

    back: frozenset[str]
    lost: frozenset[str]
    reason: str | None
    outs: list[str]


def workspace(root: Path, cache: Path) -> Checked:
    """Check the objects that the workspace's dvc.lock names.

    Raises:
        ValueError: there is no dvc.lock.
    """
    lock = root / LOCK
    if not lock.is_file():
        raise ValueError(f"{lock} does not exist: `bonesoup run` makes it; or name a version to check")
    wanted = frozenset(out.name for out in outs(lock))
    return Checked(WORKSPACE, 0, [], wanted, objects.examine(cache, wanted))


def versions(root: Path, prefix: str, texts: list[str], cache: Path) -> list[Checked]:
    """Check registered versions.

    Args:
        prefix: of the model names, `register.name`.
        texts: references, see registry/versions.py.

    Raises:
        ConnectionError: the store does not answer.
        ValueError: it has no such version.
    """
    store = connect(root, prefix)
    with nothing_lost(tracking_uri(root)):
        named = [find(store.client, text, soup_name(prefix)) for text in texts]
        return [version(root, registered, cache) for registered in named]


def version(root: Path, registered: ModelVersion, cache: Path) -> Checked:
    """Download a registered version; check its files, base and lineage, and the objects its dvc.lock names."""
    with work_folder(root) as work:
        folder = manifest.download_files(registered, work)
        if registered.tags.get("kind") == bases.KIND:
            listed, faults = True, bases.faults(registered, folder)
        else:
            listed = "manifest" in registered.tags or (folder / manifest.MANIFEST).is_file()
            faults = manifest.faults(registered, folder, work) if listed else []
        # Files that match the list must also match the digests in recipes and lineage.
        if not faults and (folder / LINEAGE).is_file():
            faults = lineage_faults(folder)
        wanted = frozenset(out.name for out in outs(folder / "lineage" / LOCK))
        count = len(manifest.names(folder))
    return Checked(reference(registered), count, faults, wanted, objects.examine(cache, wanted), listed)


def lineage_faults(folder: Path) -> list[str]:
    """List weights of a version that differ from the digests in its lineage and recipes."""
    facts, artifacts = read_json(folder / LINEAGE), folder / "artifacts"
    policies = facts["policies"] | facts.get("rewarded", {})
    expected = {artifacts / slot / ADAPTER: policy["sha256"] for slot, policy in policies.items()}
    for recipe in sorted(artifacts.glob("*.json")):
        expected |= {artifacts / p["path"] / ADAPTER: p["digest"] for p in read_json(recipe)["policies"]}
    expected[artifacts / SFT.name] = facts["sha256"][SFT.as_posix()]
    # Merged weights carry neither adapters nor the base.
    return [
        f"{path.relative_to(folder).as_posix()}: not what the lineage names"
        for path, digest in expected.items()
        if path.exists() and file_digest(path) != digest
    ]


def restore(root: Path, cache: Path, checked: list[Checked]) -> Restored:
    """Remove corrupted objects, fetch them and missing ones from the remote, and repair results made from them."""
    corrupted = {name: content for item in checked for name, content in item.objects.corrupted.items()}
    gone = {*corrupted, *(name for item in checked for name in item.objects.missing)}
    if not gone:
        return Restored(frozenset(), frozenset(), None, [])
    for name in corrupted:
        objects.object_path(cache, name).unlink()
    wanted = {name for item in checked for name in item.wanted}
    reason = objects.fetch(root, wanted)
    after = objects.examine(cache, wanted)
    mended = mend(root, cache, {name: content for name, content in corrupted.items() if name in after.sound})
    return Restored(frozenset(gone & after.sound), frozenset(corrupted.keys() - after.sound), reason, mended)


def mend(root: Path, cache: Path, restored: dict[str, str]) -> list[str]:
    """Check out again the workspace's results that have the content of a corrupted object.

    Args:
        restored: name of an object -> MD5 of its corrupted content.
    """
    stale = []
    for out in outs(root / LOCK):
        if not objects.object_path(cache, out.name).is_file():
            continue
        top = root / out.path
        inner = objects.files(cache, out.name) if out.name.endswith(objects.FOLDER) else {}
        files = {top / path: name for path, name in inner.items()} if inner else {top: out.name}
        bad = [path for path, name in files.items() if name in restored and _holds(path, restored[name])]
        for path in bad:
            path.unlink()
        if bad:
            stale.append(out.path)
    if stale:
        objects.dvc(root, "checkout", *stale)
    return stale


def _holds(path: Path, content: str) -> bool:
    """Return True if a file has this MD5; a link to a removed object had it."""
    return path.is_symlink() or (path.is_file() and md5(path) == content)
