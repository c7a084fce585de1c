"""`bonesoup clean`: delete what nothing needs any more in the MLflow store, the DVC cache, scratch/ and out/."""

import contextlib
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bonesoup.files import bytes_of, remove
from bonesoup.locks import exclusive
from bonesoup.registry.bases import sizes
from bonesoup.registry.store import Store, connect, database_file, nothing_lost, shown, tracking_uri
from bonesoup.registry.versions import soup_name
from bonesoup.settings.schema import Settings
from bonesoup.upkeep import disposal, gc, leftovers, retention
from bonesoup.upkeep.retention import Retention
from bonesoup.workspace import declared

# Age at which a work folder belongs to a killed command; no command takes this long.
WORK, WORK_SECONDS = "var/work-*", 86400


class NothingThere(Exception):
    """There is no store, or it holds nothing of this project."""


@dataclass(frozen=True)
class Plan:
    """Everything to delete.

    Attributes:
        store, retention: None if there is no store.
        needed: objects that registered versions need.
        objects: files of the DVC cache to delete.
        training: folders in scratch/ to delete.
        leftovers: paths in out/ and var/ to delete.
        notes: what is left alone, and why.
        failed: why the store could not be asked; None if it was, or if there is none.
        shared: leave this workspace alone, since others may be working in it.
    """

    store: Store | None
    retention: Retention | None
    needed: frozenset[str]
    objects: list[Path]
    training: list[Path]
    leftovers: list[Path]
    notes: list[str]
    shared: bool = False
    failed: str | None = None

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Map each part to the number of things to delete and their bytes."""
        going = self.retention or Retention([])
        models = sum(sum(sizes(model.artifact_location).values()) for model in going.models)
        # The files of a base lie in its run.
        runs = sum(sum(sizes(run.info.artifact_uri).values()) for run in going.runs)
        return {
            "versions and the models behind them": (max(len(going.versions), len(going.models)), models),
            "MLflow runs": (len(going.runs), runs),
            "objects of the DVC cache": (len(self.objects), sum(path.stat().st_size for path in self.objects)),
            "folders in scratch/": (len(self.training), sum(map(bytes_of, self.training))),
            "leftovers in out/ and var/": (len(self.leftovers), sum(map(bytes_of, self.leftovers))),
        }


def plan(root: Path, settings: Settings, keep: int, shared: bool = False) -> Plan:
    """Find what to delete, without changing anything.

    Args:
        keep: how many of the newest versions of each model, and of the newest pipelines, stay.
        shared: leave out/, scratch/ and var/ of this workspace as they are, see Plan.shared.

    Raises:
        RuntimeError: DVC is at work here or in a checkout.
    """
    roots = gc.checkouts(root) if shared else [root, *gc.checkouts(root)]
    training, notes = stale_training(root, roots)
    stale = [] if shared else declared.leftovers(root)
    oldest = time.time() - WORK_SECONDS
    stale += [path for folder in roots for path in sorted(folder.glob(WORK)) if leftovers.newest(path) < oldest]
    try:
        store, going, needed = registry(root, settings.register_.name, keep)
    except (ConnectionError, NothingThere) as error:
        why = f"{str(error).splitlines()[0]}: nothing is cleaned there, nor in the DVC cache, whose use is unknown"
        failed = why if isinstance(error, ConnectionError) else None
        return Plan(None, None, frozenset(), [], training, stale, [*notes, why], shared, failed)
    objects = []
    if cache := gc.shared_cache(root):
        notes.append(f"the DVC cache {cache} lies outside this repository: others may need it, so it is left alone")
    else:
        objects = gc.unused(root, needed)
    return Plan(store, going, frozenset(needed), objects, training, stale, notes, shared)


def registry(root: Path, prefix: str, keep: int) -> tuple[Store, Retention, set[str]]:
    """Return the store, what to delete there, and the objects of the DVC cache that its versions need.

    Raises:
        ConnectionError: the store does not answer.
        NothingThere: there is no store, or it holds nothing of this project.
    """
    uri = tracking_uri(root)
    if (file := database_file(uri)) and not file.is_file():
        raise NothingThere(f"there is no MLflow store {shown(uri)}")
    store = connect(root, prefix)
    with nothing_lost(uri):
        going = retention.decide(store, prefix, keep)
        if not any(version.name == soup_name(prefix) for version in going.kept):
            raise NothingThere(f"no version of {soup_name(prefix)} in {shown(uri)}")
        return store, going, gc.needed(root, going.kept)


def stale_training(root: Path, roots: list[Path]) -> tuple[list[Path], list[str]]:
    """Return the training folders to delete in `roots` (this workspace, checkouts), and notes on busy checkouts."""
    used = leftovers.used_fingerprints([root, *gc.checkouts(root)])
    busy = {folder: work for folder in roots if folder != root and (work := leftovers.at_work(folder))}
    stale = [path for folder in roots if folder not in busy for path in leftovers.stale_scratch(folder, used)]
    return stale, [f"{folder} is at work ({work[0]}): its scratch/ is left alone" for folder, work in busy.items()]


def carry_out(root: Path, plan: Plan, echo: Callable[[str], None]) -> None:
    """Delete everything in the plan.

    Raises:
        ConnectionError: the MLflow store does not answer any more.
        RuntimeError: something is running here; nothing is deleted.
    """
    if not plan.shared and (busy := leftovers.at_work(root)):
        raise RuntimeError(f"{root} is at work, so nothing was deleted: " + "; ".join(busy))
    needed = set(plan.needed)
    if plan.retention:
        uri = tracking_uri(root)
        with nothing_lost(uri):
            needed |= gc.needed(root, disposal.delete(plan.store, uri, plan.retention, echo))
    if plan.objects:
        gc.collect(root, needed)
    for folder in plan.training:
        # Keep a folder that somebody has begun to train in since.
        with contextlib.suppress(TimeoutError), exclusive(folder.with_suffix(".lock"), wait=0):
            shutil.rmtree(folder)
    for path in plan.leftovers:
        remove(path)
