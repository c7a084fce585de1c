"""What is served: a registered version, or a project's own run, as recipes, defaults and measured fronts."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ruamel.yaml import YAML

from bonesoup.files import read_json
from bonesoup.generation.soup import Soup
from bonesoup.method.basis import circulant
from bonesoup.method.methods import BASELINE, MAIN, SFT
from bonesoup.paths import MEASURED, SOUPS
from bonesoup.settings import params


@dataclass(frozen=True, eq=False)
class Source:
    """One soup and what is known about it.

    Attributes:
        name: of the model, as clients name it.
        version: its number in the registry; None for a project's own run.
        soups: by method: the soup itself, the Rewarded Soup of its run where it is there, and `sft`, the base alone.
        default: weights answered when a request names none.
        front: what every method scored at every preference, with intervals; None where it was not measured.
        place: where it comes from, for people.
    """

    name: str
    version: str | None
    soups: dict[str, Soup]
    preferences: dict[str, dict[str, float]]
    default: dict[str, float]
    temperature: float
    max_new_tokens: int
    front: dict | None
    place: str

    @property
    def soup(self) -> Soup:
        return next(iter(self.soups.values()))

    @property
    def objectives(self) -> tuple[str, ...]:
        return self.soup.objectives

    @property
    def models(self) -> dict[str, str]:
        """Method -> the name under which clients ask for it; the soup itself has the plain name."""
        return {method: self.name if method == self.soup.method else f"{self.name}/{method}" for method in self.soups}

    @property
    def beta(self) -> float | None:
        """Of a Bone Soup's circulant basis; None where the rows are no such basis."""
        rows = np.array([policy.row for policy in self.soup.policies])
        n = len(self.objectives)
        if rows.shape == (n, n) and rows[0, 0] > 1 / n and np.allclose(rows, circulant(n, float(rows[0, 0]))):
            return float(rows[0, 0])
        return None


def from_project(root: Path) -> Source:
    """The soup of a project's own run.

    Raises:
        ValueError: there is no run to serve.
    """
    if not (root / SOUPS / f"{MAIN}.json").is_file():
        raise ValueError(f"{root / SOUPS} has no soup to serve: `bonesoup run` makes it")
    settings = params.load(root / params.PARAMS)
    own = Soup.read(root / SOUPS / f"{MAIN}.json", root)
    soups = {MAIN: own} | _beside(own, root / SOUPS / f"{BASELINE}.json", root)
    weights = 1 / len(own.objectives)
    return Source(
        name=f"{settings.register_.name}-soup",
        version=None,
        soups=soups,
        preferences={name: dict(chosen) for name, chosen in settings.preferences.items()},
        default=dict.fromkeys(own.objectives, weights),
        temperature=settings.generation.temperature,
        max_new_tokens=settings.generation.max_new_tokens,
        front=_front(root / MEASURED),
        place=f"the run in {root.absolute()}",
    )


def from_version(folder: Path, name: str, version: str | None) -> Source:
    """The soup in the files of a registered version.

    Raises:
        ValueError: it is no steerable soup: merged weights or one backbone answer one preference only.
    """
    files = folder / "artifacts"
    if not (files / "soup.json").is_file():
        raise ValueError(f"{folder} has no artifacts/soup.json: it is no registered version")
    config = YAML(typ="safe").load(folder / "MLmodel")["flavors"]["python_function"]["config"]
    if config["fixed"]:
        raise ValueError(
            f"{name} answers one preference only and cannot be steered: serve the soup it comes from, or its "
            "checkpoint with any server of Transformers models"
        )
    own = Soup.read(files / "soup.json", files)
    return Source(
        name=name,
        version=version,
        soups={own.method: own} | _beside(own, files / f"{BASELINE}.json", files),
        preferences=config["preferences"],
        default=config["default"],
        temperature=config["temperature"],
        max_new_tokens=config["max_new_tokens"],
        front=_front(folder / "lineage" / MEASURED.name),
        place=f"version {version} of {name}" if version else f"the files in {folder.absolute()}",
    )


def from_folder(folder: Path) -> Source:
    """A project, or the downloaded files of a version.

    Raises:
        ValueError: it is neither.
    """
    if (folder / "artifacts/soup.json").is_file():
        return from_version(folder, folder.absolute().name, None)
    if (folder / params.PARAMS).is_file():
        return from_project(folder)
    raise ValueError(f"{folder} is neither a project (it has no {params.PARAMS}) nor the files of a registered version")


def from_registry(root: Path, reference: str | None, work: Path) -> Source | None:
    """A version of the project's registry; with no reference its champion, None where it has none.

    Args:
        work: folder for the version's files, which are needed as long as it is served.

    Raises:
        ValueError: no such version, or files that are not those that were registered.
        ConnectionError: the registry does not answer.
    """
    from bonesoup.registry import intact, names
    from bonesoup.registry.store import UNCHANGED, connect

    settings = params.load(root / params.PARAMS)
    model = names.soup_name(settings.register_.name)
    store = connect(root, settings.register_.name, consequence=UNCHANGED)
    version = (
        names.find(store.client, reference, model) if reference else names.aliased(store.client, model, names.CHAMPION)
    )
    if version is None:
        return None
    files = intact.look(store, version, work)
    if files.faults:
        raise ValueError(f"{names.reference(version)}: its files are not as registered: {files.text}")
    return from_version(work / f"{version.name}-{version.version}", version.name, str(version.version))


def _beside(own: Soup, rewarded: Path, root: Path) -> dict[str, Soup]:
    found = {BASELINE: Soup.read(rewarded, root)} if rewarded.is_file() else {}
    return found | {SFT: Soup(SFT, own.base, own.objectives, "none", (), own.preferences)}


def _front(file: Path) -> dict | None:
    return read_json(file) if file.is_file() else None
