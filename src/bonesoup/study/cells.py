"""Read a study, studies/NAME.yaml, into cells, one for each setting and seed.

profile: embedded
common: {evaluation.samples: 512}     # dotted keys of params.yaml, for every cell
seeds: [0, 1, 2]
settings:                             # changes to the profile; the others are compared with the first
  default: {}
  kl-low: {rl.kl: 0.03}
  three: {profile: embedded-3}
"""

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bonesoup.files import digest, md5
from bonesoup.settings import params, profiles
from bonesoup.settings.schema import Name

STUDIES = Path("studies")
# Settings added after the first results, with the value that changes nothing.
LATER = {
    "model.sha256": None,
    "rl.updates": None,
    "basis.distribution": "interior",
    "register.method": "bone",
    "register.samples": 256,
    "data.files": None,
    "rewards.*.lora": None,
}


class Plan(BaseModel):
    """A study's file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    profile: str
    common: dict[str, Any] = {}
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    settings: Annotated[dict[Name, dict[str, Any]], Field(min_length=1)]


@dataclass(frozen=True)
class Cell:
    """One run of the pipeline; `changes` are dotted keys set on the profile, `common` ones included."""

    setting: str
    seed: int
    profile: str
    changes: dict[str, Any]
    data: str | None = None

    @property
    def name(self) -> str:
        return f"{self.setting}-{self.seed}"

    def document(self) -> dict:
        """Return its params.yaml.

        Raises:
            ValueError: no such profile or key, or the settings are wrong.
        """
        return profiles.compose(self.profile, self.data, self.changes | {"seed": self.seed})

    def identity(self) -> dict[str, str | None]:
        """Return the digests that its result carries; "data" is None if it is missing. See `identity`."""
        document = self.document()
        path = Path(document["data"]["path"])
        return identity(document, md5(path) if path.exists() else None)


def identity(document: dict, data: str | None) -> dict[str, str | None]:
    """Digest the settings of a params.yaml, apart from the path of the data, and the data itself by MD5, as DVC does.

    Settings in LATER are left out if they have the value given there.
    """
    settings = deepcopy(document)
    del settings["data"]["path"]
    for key, value in LATER.items():
        _leave_out(settings, key.split("."), value)
    return {"settings": digest(settings), "data": data}


def _leave_out(section: dict, path: list[str], value: Any) -> None:
    """Delete the key at `path` if it has this value; `*` stands for every key."""
    key, *rest = path
    for name in list(section) if key == "*" else [key]:
        if rest:
            _leave_out(section[name], rest, value)
        elif name in section and section[name] == value:
            del section[name]


def alike(a: dict[str, str | None], b: dict[str, str | None]) -> bool:
    """Tell whether two identities belong to the same cell; unknown data matches any."""
    data = {a["data"], b["data"]}
    return a["settings"] == b["settings"] and (len(data) == 1 or None in data)


def names() -> list[str]:
    return sorted(path.stem for path in STUDIES.glob("*.yaml"))


def read(name: str) -> Plan:
    """Read the plan in studies/NAME.yaml.

    Raises:
        ValueError: there is no such file, or it is not a plan.
    """
    path = STUDIES / f"{name}.yaml"
    if not path.is_file():
        raise ValueError(f"no study {name!r}: {path} does not exist; there are: {', '.join(names()) or 'none'}")
    try:
        return Plan.model_validate(params.parse_yaml(path.read_bytes(), str(path)))
    except ValidationError as error:
        faults = [f"  - {'.'.join(map(str, f['loc'])) or 'the file'}: {f['msg']}" for f in error.errors()]
        raise ValueError(f"{path} is not a study:\n" + "\n".join(faults)) from None


def cells(plan: Plan, seeds: list[int], settings: list[str], data: str | None = None) -> list[Cell]:
    """List the cells of some seeds and settings, seed by seed; an empty choice means all of the plan.

    Args:
        data: a path that replaces the profile's `data.path`.

    Raises:
        ValueError: a setting that the plan lacks, a seed twice, or settings that are wrong; lists every fault.
    """
    if unknown := [name for name in settings if name not in plan.settings]:
        raise ValueError(f"no setting {', '.join(map(repr, unknown))}; the study has: {', '.join(plan.settings)}")
    seeds = seeds or plan.seeds
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds {', '.join(map(str, seeds))}: one stands there twice")
    chosen = [name for name in plan.settings if not settings or name in settings]
    chosen_cells = [_cell(plan, name, seed, data) for seed in seeds for name in chosen]
    faults = []
    for cell in chosen_cells[: len(chosen)]:
        try:
            cell.document()
        except ValueError as error:
            faults.append(f"setting {cell.setting}: {error}")
    if faults:
        raise ValueError("\n".join(faults))
    return chosen_cells


def _cell(plan: Plan, setting: str, seed: int, data: str | None) -> Cell:
    changes = plan.common | plan.settings[setting]
    profile = changes.pop("profile", plan.profile)
    return Cell(setting, seed, profile, changes, data)
