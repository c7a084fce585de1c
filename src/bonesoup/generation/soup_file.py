"""Read a soup file: a base, adapters on it, and what mixtures of them are called."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StringConstraints, ValidationError

from bonesoup.generation.soup import Soup
from bonesoup.method.preferences import adapter_faults, preference_faults
from bonesoup.settings.params import faults_of, parse_yaml, refusal
from bonesoup.weights.checkpoint import read_config

# Excludes the characters that separate names in `NAME@calm:1.4+bold:-0.4`.
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Weights = dict[Name, FiniteFloat]


class SoupFile(BaseModel):
    """People's own adapters on their base.

    Attributes:
        name: the model's name for clients.
        base: folder of the base, and of each adapter; in a file, relative to it.
        rows: {adapter: {objective: weight}}, the reward weights each was trained on. With rows, a request can state a
            preference over the objectives; its coefficients solve rows^T lambda = preference.
        presets: {name: {adapter: weight}}; adapters that are not named have weight 0.
        preferences: {name: {objective: weight}}.
        temperature, max_new_tokens: defaults for requests that do not set them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, StringConstraints(pattern=r"^[^@\s]+$")]
    base: Path
    adapters: Annotated[dict[Name, Path], Field(min_length=1)]
    rows: dict[Name, Weights] = {}
    presets: dict[Name, Weights] = {}
    preferences: dict[Name, Weights] = {}
    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    max_new_tokens: Annotated[int, Field(ge=1)] = 512

    @property
    def soup(self) -> Soup:
        """Return the recipe."""
        return Soup.of_adapters(self.base, self.adapters, self.rows)

    @property
    def mixtures(self) -> dict[str, dict[str, float]]:
        """Return the named mixtures: every adapter alone, and the presets."""
        return {name: {name: 1.0} for name in self.adapters} | self.presets


def read(path: Path) -> SoupFile:
    """Read a soup file.

    Raises:
        ValueError: naming the file and each key that is wrong.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path} does not exist: a soup file names a base and adapters in YAML")
    raw = parse_yaml(path.read_bytes(), str(path))
    if not isinstance(raw, dict):
        raise ValueError(f"{path} must be a mapping with the keys base and adapters, found {type(raw).__name__}")
    return check({"name": path.stem} | raw, str(path), path.parent)


def check(raw: dict[str, Any], where: str, root: Path = Path(".")) -> SoupFile:
    """Check a base and its adapters.

    Args:
        where: names the source in messages.
        root: folder from which the paths are taken.

    Raises:
        ValueError: lists everything that is wrong.
    """
    try:
        soup = SoupFile.model_validate(raw)
    except ValidationError as error:
        raise refusal(where, faults_of(error, raw)) from None
    paths = {"base": root / soup.base, "adapters": {name: root / path for name, path in soup.adapters.items()}}
    soup = soup.model_copy(update=paths)
    if faults := _faults(soup):
        raise refusal(where, faults)
    read_config(soup.base)
    return soup


def _faults(soup: SoupFile) -> list[str]:
    """List what no single key shows."""
    adapters = list(soup.adapters)
    faults = [f"presets.{name}: {f}" for name, chosen in soup.presets.items() for f in adapter_faults(chosen, adapters)]
    for first, second in (("presets", "adapters"), ("preferences", "adapters"), ("preferences", "presets")):
        for name in getattr(soup, first).keys() & getattr(soup, second).keys():
            faults.append(f"{first}.{name}: {second} has this name too, and a request could mean either")
    if not soup.rows:
        return faults + [f"preferences.{name}: a preference needs rows" for name in soup.preferences]
    faults += [f"rows: no row for adapter {name}" for name in adapters if name not in soup.rows]
    faults += [f"rows.{name}: no adapter has this name" for name in soup.rows if name not in adapters]
    objectives = list(next(iter(soup.rows.values())))
    for name, row in soup.rows.items():
        if row.keys() != set(objectives):
            weighed = ", ".join(row) or "nothing"
            faults.append(f"rows.{name}: it weighs {weighed}, the first row {', '.join(objectives)}")
        elif name in objectives and row != {each: float(each == name) for each in objectives}:
            faults.append(
                f"rows.{name}: an adapter with an objective's name has weight 1 for it and 0 for the others, or a "
                "request could mean either"
            )
    for name, chosen in soup.preferences.items():
        faults += [f"preferences.{name}: {fault}" for fault in preference_faults(chosen, objectives)]
    if not faults:
        try:
            soup.soup.coefficients([1 / len(objectives)] * len(objectives))
        except ValueError as error:
            faults.append(f"rows: {error}")
    return faults
