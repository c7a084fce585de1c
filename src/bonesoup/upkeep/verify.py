"""`bonesoup verify`: every file of a version against its list, every object of the DVC cache against its name."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import mlflow
from mlflow.entities.model_registry import ModelVersion

from bonesoup.files import file_digest, read_json
from bonesoup.paths import SFT
from bonesoup.registry import manifest, names
from bonesoup.registry.store import connect, nothing_lost, tracking_uri
from bonesoup.workspace import objects
from bonesoup.workspace.objects import Objects

LOCK = "dvc.lock"
WORKSPACE = "workspace"
LINEAGE = "lineage/lineage.json"
# Named as what a registration works in, so that `bonesoup clean` finds what was left by one that was killed.
WORK = Path("var/version-")
ADAPTER = "adapter_model.safetensors"


@dataclass(frozen=True)
class Checked:
    """What was found out about a version, or about the workspace.

    Attributes:
        files: how many files the version has; the workspace's own are not read.
        faults: damaged files of the version, one line each.
        listed: the version has a list of its files; one that was registered before there were lists has none.
        wanted: objects that its dvc.lock names.
        objects: what became of them in the local cache.
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
    """What a restore did.

    Attributes:
        back: objects that are sound again.
        lost: corrupted objects that were removed and could not be fetched.
        reason: why the remote gave nothing; None where it answered.
        outs: results in the workspace that were made again from the cache.
    """

    back: frozenset[str]
    lost: frozenset[str]
    reason: str | None
    outs: list[str]


def workspace(root: Path, cache: Path) -> Checked:
    """Check what the workspace's dvc.lock names.

    Raises:
        ValueError: there is no dvc.lock.
    """
    lock = root / LOCK
    if not lock.is_file():
        raise ValueError(f"{lock} does not exist: `bonesoup run` makes it; or name a version to check")
    wanted = frozenset(out.name for out in objects.outs(lock.read_text()))
    return Checked(WORKSPACE, 0, [], wanted, objects.examine(cache, wanted))


def versions(root: Path, prefix: str, texts: list[str], cache: Path) -> list[Checked]:
    """Check registered versions.

    Args:
        prefix: of the model names, `register.name`.
        texts: as people name versions, see registry/names.py.

    Raises:
        ConnectionError: the store does not answer.
        ValueError: it has no such version.
    """
    store = connect(root, prefix)
    with nothing_lost(tracking_uri(root)):
        found = [names.find(store.client, text, names.soup_name(prefix)) for text in texts]
        return [version(root, registered, cache) for registered in found]


def version(root: Path, registered: ModelVersion, cache: Path) -> Checked:
    """Download a registered version and check its files, its lineage and the objects its dvc.lock names."""
    beside = root / WORK.parent
    beside.mkdir(exist_ok=True)
    # Not in /tmp, which may be small: merged weights are as large as the base.
    with tempfile.TemporaryDirectory(prefix=WORK.name, dir=beside) as temporary:
        folder = download(registered, Path(temporary))
        digest = registered.tags.get("manifest")
        listed = bool(digest) or (folder / manifest.MANIFEST).is_file()
        faults = manifest.check(folder, digest) if listed else []
        # Where the files are as listed, they must also be those that the recipes and the lineage name.
        if not faults and (folder / LINEAGE).is_file():
            faults = lineage_faults(folder)
        lock = folder / "lineage" / LOCK
        wanted = frozenset(out.name for out in objects.outs(lock.read_text())) if lock.is_file() else frozenset()
        count = len(manifest.files(folder))
    return Checked(names.reference(registered), count, faults, wanted, objects.examine(cache, wanted), listed)


def download(registered: ModelVersion, into: Path, path: str = "") -> Path:
    """A version's files, or one of them, copied to a folder of one's own."""
    uri = f"models:/{registered.name}/{registered.version}" + (f"/{path}" if path else "")
    return Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(into)))


def lineage_faults(folder: Path) -> list[str]:
    """Weights of a version that are not those its lineage and its recipes name by digest."""
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
    """Remove corrupted objects, fetch them and missing ones from the remote, and mend results made from them."""
    corrupted = {name: found for one in checked for name, found in one.objects.corrupted.items()}
    gone = {*corrupted, *(name for one in checked for name in one.objects.missing)}
    if not gone:
        return Restored(frozenset(), frozenset(), None, [])
    for name in corrupted:
        objects.place(cache, name).unlink()
    wanted = {name for one in checked for name in one.wanted}
    reason = objects.fetch(root, wanted)
    after = objects.examine(cache, wanted)
    mended = mend(root, cache, {name: found for name, found in corrupted.items() if name in after.sound})
    return Restored(frozenset(gone & after.sound), frozenset(corrupted.keys() - after.sound), reason, mended)


def mend(root: Path, cache: Path, restored: dict[str, str]) -> list[str]:
    """Check out again the results in the workspace whose content is that of a corrupted object.

    Args:
        restored: name of an object -> MD5 of what it was before.
    """
    lock = root / LOCK
    stale = []
    for out in objects.outs(lock.read_text()) if lock.is_file() else []:
        if not objects.place(cache, out.name).is_file():
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
    """Whether a file has this MD5; a link to an object that was removed had."""
    return path.is_symlink() or (path.is_file() and objects.md5(path) == content)
