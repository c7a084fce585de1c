"""The soup to serve, from a registered version or a project's run: recipes, defaults and measured fronts."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from ruamel.yaml import YAML

from bonesoup.evaluation.chosen import chosen_method
from bonesoup.files import read_json, read_jsonl
from bonesoup.generation.soup import Soup
from bonesoup.generation.soup_file import SoupFile
from bonesoup.method.basis import circulant
from bonesoup.method.methods import BASELINE, SFT
from bonesoup.paths import MEASURED, PROMPTS, SOUPS
from bonesoup.serving.rewards import RunRewards, rewards_of
from bonesoup.settings import params

# Number of prompts to try, and most characters of each.
EXAMPLES, EXAMPLE = 6, 120


@dataclass(frozen=True, eq=False)
class Source:
    """A soup with its defaults and its measured front.

    Attributes:
        name: the model's name for clients.
        version: its number in the registry; None for a project's run.
        soups: by method: the main soup, the Rewarded Soup of its run if there is one, and `sft`, the base alone.
        default: preference of a request that names none; empty without objectives, which means the base alone.
        front: the scores of every method at every preference, with intervals; None if it was not measured.
        place: description of its origin, for people.
        examples: prompts of the test split to try it with.
        presets: named mixtures of policies.
        rewards: rewards of the run, which score answers; None if they are not available.
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
    examples: tuple[str, ...] = ()
    presets: dict[str, dict[str, float]] = field(default_factory=dict)
    rewards: RunRewards | None = None

    @property
    def soup(self) -> Soup:
        """Return the main soup, without the baselines."""
        return next(iter(self.soups.values()))

    @property
    def objectives(self) -> tuple[str, ...]:
        """Return the objectives, in the order of weights."""
        return self.soup.objectives

    @property
    def models(self) -> dict[str, str]:
        """Map a method to its model name for clients; the main soup has the plain name."""
        return {method: self.name if method == self.soup.method else f"{self.name}/{method}" for method in self.soups}

    @property
    def beta(self) -> float | None:
        """Return the beta of a Bone Soup's circulant basis; None for other rows."""
        rows = np.array([policy.row for policy in self.soup.policies])
        n = len(self.objectives)
        if rows.shape == (n, n) and rows[0, 0] > 1 / n and np.allclose(rows, circulant(n, float(rows[0, 0]))):
            return float(rows[0, 0])
        return None


def from_project(root: Path) -> Source:
    """Read the soup of a project's run that `register.method` names.

    Raises:
        ValueError: there is no run to serve.
    """
    settings = params.load(root / params.PARAMS)
    method = chosen_method(settings.register_, root)
    if not (root / SOUPS / f"{method}.json").is_file():
        raise ValueError(f"{root / SOUPS} has no soup {method} to serve: `bonesoup run` makes it")
    main = Soup.read(root / SOUPS / f"{method}.json", root)
    soups = {method: main} | _beside(main, root / SOUPS / f"{BASELINE}.json", root)
    return Source(
        name=f"{settings.register_.name}-soup",
        version=None,
        soups=soups,
        preferences={name: dict(chosen) for name, chosen in settings.preferences.items()},
        default=dict.fromkeys(main.objectives, 1 / len(main.objectives)),
        temperature=settings.generation.temperature,
        max_new_tokens=settings.generation.max_new_tokens,
        front=_front(root / MEASURED),
        place=f"the run in {root.absolute()}",
        examples=_examples(root / PROMPTS),
        rewards=rewards_of(settings, root),
    )


def from_version(folder: Path, name: str, version: str | None, work: Path | None = None) -> Source:
    """Read the soup in the files of a registered version.

    Args:
        work: folder for the base, if the files only name it; needed as long as it is served.

    Raises:
        ValueError: it cannot be steered: merged weights or a single backbone answer one preference only.
    """
    files = folder / "artifacts"
    if not (files / "soup.json").is_file():
        raise ValueError(f"{name}: its files have no artifacts/soup.json, so it is no soup and cannot be served")
    config = YAML(typ="safe").load(folder / "MLmodel")["flavors"]["python_function"]["config"]
    if config["fixed"]:
        raise ValueError(
            f"{name} answers one preference only and cannot be steered: serve the soup it comes from, or its "
            "checkpoint with any server of Transformers models"
        )
    main = Soup.read(files / "soup.json", files)
    if work and not main.base.is_dir():
        main = replace(main, base=_base(folder, work))
    return Source(
        name=name,
        version=version,
        soups={main.method: main} | _beside(main, files / f"{BASELINE}.json", files),
        preferences=config["preferences"],
        default=config["default"],
        temperature=config["temperature"],
        max_new_tokens=config["max_new_tokens"],
        front=_front(folder / "lineage" / MEASURED.name),
        place=f"version {version} of {name}" if version else f"the files in {folder.absolute()}",
    )


def from_adapters(file: SoupFile, place: str) -> Source:
    """Make a source from people's own adapters, mixed by weights and, if they have rows, by preferences.

    Args:
        place: description of their origin, for people.
    """
    soup = file.soup
    return Source(
        name=file.name,
        version=None,
        soups={soup.method: soup},
        preferences=file.preferences,
        default={name: 1 / len(soup.objectives) for name in soup.objectives},
        temperature=file.temperature,
        max_new_tokens=file.max_new_tokens,
        front=None,
        place=place,
        presets=file.mixtures,
    )


def from_folder(folder: Path, work: Path | None = None) -> Source:
    """Read a project, or the downloaded files of a version.

    Args:
        work: see `from_version`.

    Raises:
        ValueError: it is neither.
    """
    if (folder / "artifacts/soup.json").is_file():
        return from_version(folder, folder.absolute().name, None, work)
    if (folder / params.PARAMS).is_file():
        return from_project(folder)
    raise ValueError(f"{folder} is neither a project (it has no {params.PARAMS}) nor the files of a registered version")


def from_registry(root: Path, reference: str | None, work: Path) -> Source | None:
    """Download and read a version from the project's registry; without a reference its champion, or None.

    Args:
        work: folder for the version's files, needed as long as it is served.

    Raises:
        ValueError: no such version, or its files are not those that were registered.
        ConnectionError: the registry does not answer.
    """
    from bonesoup.registry import manifest, versions
    from bonesoup.registry.store import UNCHANGED, connect

    settings = params.load(root / params.PARAMS)
    model = versions.soup_name(settings.register_.name)
    store = connect(root, settings.register_.name, consequence=UNCHANGED)
    if reference:
        version = versions.find(store.client, reference, model)
    else:
        version = versions.aliased(store.client, model, versions.CHAMPION)
    if version is None:
        return None
    files = manifest.inspect(store, version, work)
    if files.faults:
        raise ValueError(f"{versions.reference(version)}: its files are not as registered: {files.text}")
    return from_version(work / f"{version.name}-{version.version}", version.name, str(version.version))


def _base(folder: Path, work: Path) -> Path:
    """Fetch the base that a version's files name from the registry of the project here, or of MLFLOW_TRACKING_URI."""
    from bonesoup.registry import bases
    from bonesoup.registry.store import use

    use(Path("."))
    try:
        base = bases.of(folder, work)
    except bases.Missing as error:
        raise ValueError(f"{folder}: {error}") from None
    return base or folder / bases.PLACE


def _beside(main: Soup, rewarded: Path, root: Path) -> dict[str, Soup]:
    """Return the baselines that are served along with a soup."""
    read = {BASELINE: replace(Soup.read(rewarded, root), base=main.base)} if rewarded.is_file() else {}
    return read | {SFT: base_alone(main)}


def base_alone(soup: Soup) -> Soup:
    """Return the soup of no policies on the base of another."""
    return Soup(SFT, soup.base, soup.objectives, "none", (), soup.preferences)


def _front(file: Path) -> dict | None:
    return read_json(file) if file.is_file() else None


def _examples(file: Path) -> tuple[str, ...]:
    """Choose some single-turn prompts of the test split, spread over it."""
    if not file.is_file():
        return ()
    rows = [row["prompt"] for row in read_jsonl(file) if row["split"] == "test" and len(row["prompt"]) == 1]
    texts = sorted({prompt[0]["content"] for prompt in rows}, key=len)
    # Short prompts of different lengths fit a button.
    texts = [text for text in texts if len(text) <= EXAMPLE] or texts[:EXAMPLES]
    return tuple(texts[i * len(texts) // EXAMPLES] for i in range(min(EXAMPLES, len(texts))))
