"""Read dvc.yaml without DVC, which takes a second to import: stages, their keys, what they read and make."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from bonesoup.files import remove

# How a foreach stage writes the key it is expanded for.
KEY = re.compile(r"\$\{(?:key|item)\}")


@dataclass(frozen=True)
class Stage:
    """A stage of dvc.yaml.

    Attributes:
        keys: what its foreach expands to; None without one.
        params: dotted settings it reads, with `${key}` as written.
        deps, outs: paths it reads and writes, metrics included, with `${key}` as written.
    """

    name: str
    keys: tuple[str, ...] | None
    params: tuple[str, ...]
    deps: tuple[str, ...]
    outs: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        """Return DVC's names for it, such as policy@backbones."""
        return [self.name] if self.keys is None else [f"{self.name}@{key}" for key in self.keys]

    def results(self) -> dict[str, list[Path]]:
        """Map DVC's names for it to the paths they write."""
        keys = ("",) if self.keys is None else self.keys
        return {
            name: [Path(KEY.sub(lambda _, key=key: key, out)) for out in self.outs]
            for name, key in zip(self.names, keys, strict=True)
        }

    def makes(self) -> set[Path]:
        """Return the paths it writes, for every key."""
        return {path for paths in self.results().values() for path in paths}


def stages(root: Path) -> dict[str, Stage]:
    """Return the stages of the project in `root` by name, in the order of dvc.yaml, keys from its params.yaml."""
    settings = _read(root / "params.yaml")
    return {name: _stage(name, entry, settings) for name, entry in _read(root / "dvc.yaml")["stages"].items()}


def check_settings(root: Path) -> None:
    """Check that params.yaml has every setting that a stage reads; DVC would only say so at that stage.

    Raises:
        ValueError: it lacks some, such as a file written by an older version.
    """
    settings = _read(root / "params.yaml")
    read = dict.fromkeys(key for stage in stages(root).values() for key in stage.params if not KEY.search(key))
    if lacking := [key for key in read if not _has(settings, key.split("."))]:
        raise ValueError(
            f"params.yaml has no {', '.join(lacking)}, which stages read: `bonesoup profile --fill` writes the default"
            + "s" * (len(lacking) > 1)
        )


def _has(section: Any, path: list[str]) -> bool:
    return not path or (isinstance(section, Mapping) and path[0] in section and _has(section[path[0]], path[1:]))


def leftovers(root: Path) -> list[Path]:
    """Find what stages made for keys that the present settings no longer have, such as a renamed objective's reward."""
    declared = stages(root)
    made = {root / path for stage in declared.values() for path in stage.makes()}
    present = {path for stage in declared.values() for out in stage.outs for path in root.glob(KEY.sub("*", out))}
    return sorted(path for path in present - made if not path.name.startswith("."))


def tidy(root: Path) -> list[Path]:
    """Remove the leftovers and return their paths. DVC's cache keeps the results."""
    removed = leftovers(root)
    for path in removed:
        remove(path)
    return removed


def _read(path: Path) -> Any:
    return YAML(typ="safe").load(path.read_text())


def _stage(name: str, entry: Mapping[str, Any], settings: Mapping[str, Any]) -> Stage:
    body = entry.get("do", entry)
    over = entry.get("foreach")
    if isinstance(over, str):
        over = reduce(lambda section, key: section[key], over.strip("${}").split("."), settings)
    return Stage(
        name,
        None if over is None else tuple(str(key) for key in over),
        _paths(body.get("params", [])),
        _paths(body.get("deps", [])),
        _paths([*body.get("outs", []), *body.get("metrics", [])]),
    )


def _paths(entries: Iterable[Any]) -> tuple[str, ...]:
    """List the paths of entries; an entry with options is a mapping from its path to them."""
    return tuple(path for entry in entries for path in ([entry] if isinstance(entry, str) else entry))
