"""Profiles: overlays on the embedded default, written into params.yaml so that git and dvc.lock record what ran."""

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from bonesoup.settings import params, pins, schema

PROFILES = Path("profiles")
DEFAULT = "embedded"
# Keyed by objective, group or preference: an overlay replaces them whole.
WHOLE = {"rewards", "policies", "preferences"}

yaml = YAML()
yaml.width = 120
yaml.preserve_quotes = True
yaml.representer.add_representer(type(None), lambda r, _: r.represent_scalar("tag:yaml.org,2002:null", "null"))


def names() -> list[str]:
    return sorted(path.stem for path in PROFILES.glob("*.yaml"))


def compose(
    name: str | None, data: str | None = None, changes: dict[str, Any] | None = None, pin: bool = False
) -> dict:
    """The settings of a profile, as the YAML document to write.

    Args:
        name: a profile; None stands for the present params.yaml.
        data: a path that replaces the profile's `data.path`.
        changes: dotted key -> value, set last.
        pin: give every Hub id without a commit the newest one, asked of the Hub.

    Raises:
        ValueError: no such profile or key, or the settings are wrong.
        ConnectionError: the Hub does not answer, or does not know an id.
    """
    document = _changed(name, data, changes)
    if pin:
        for missing in pins.pins(params.check(plain(document), _where(name), pinned=False)):
            if not missing.revision:
                _set(document, missing.key, pins.newest(missing))
    params.check(plain(document), _where(name))
    return document


def draft(name: str | None, data: str | None = None, changes: dict[str, Any] | None = None) -> schema.Settings:
    """The settings of a profile that nothing has to be pinned for: to look at, not to run. Arguments as of compose."""
    return params.check(plain(_changed(name, data, changes)), _where(name), pinned=False)


def _changed(name: str | None, data: str | None, changes: dict[str, Any] | None) -> dict:
    document = _profile(name) if name is not None else yaml.load(params.PARAMS.read_text())
    if data:
        document["data"]["path"] = data
        document["data"] |= {"hub": None, "revision": None}
    for key, value in (changes or {}).items():
        _set(document, key, value)
    return document


def _where(name: str | None) -> str:
    return f"profile {name}" if name is not None else str(params.PARAMS)


def _profile(name: str) -> dict:
    if name not in names():
        raise ValueError(f"no profile {name!r}; there are: {', '.join(names())}")
    document = yaml.load((PROFILES / f"{DEFAULT}.yaml").read_text())
    if name != DEFAULT:
        path = PROFILES / f"{name}.yaml"
        if not isinstance(params.parse_yaml(path.read_bytes(), f"profile {path}"), dict):
            raise ValueError(f"profile {path} must be a mapping of settings")
        text = path.read_text()
        _overlay(document, yaml.load(text))
        heading = "".join(line[1:].lstrip() + "\n" for line in _heading(text))
        if heading:
            document.yaml_set_start_comment(heading.rstrip())
    return document


def _set(document: dict, key: str, value: Any) -> None:
    """Set one dotted key that the document has."""
    *outer, last = key.split(".")
    section = document
    for part in outer:
        section = section.get(part) if isinstance(section, dict) else None
    if not isinstance(section, dict) or last not in section:
        raise ValueError(f"no setting {key!r} in params.yaml: docs/settings.md lists them")
    section[last] = value


def parse_change(text: str) -> tuple[str, Any]:
    """'rl.steps=20' -> ('rl.steps', 20); the value is YAML."""
    key, given, value = text.partition("=")
    if not given:
        raise ValueError(f"--set {text!r}: expected key=value, such as rl.steps=20")
    return key, params.parse_yaml(value.encode(), f"the value of {key}")


def _heading(text: str) -> list[str]:
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line)
    return lines


def _overlay(document: dict, changes: dict) -> None:
    """Set `changes` in `document`: sections merge key by key, everything else is replaced."""
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(document.get(key), dict) and key not in WHOLE:
            _overlay(document[key], value)
        else:
            document[key] = value


def plain(value):
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def write(
    name: str | None,
    data: str | None = None,
    changes: dict[str, Any] | None = None,
    path: Path = params.PARAMS,
    pin: bool = False,
) -> None:
    """Write a profile, or the present settings with changes, into params.yaml."""
    document = compose(name, data, changes, pin)
    with open(path, "w") as out:
        yaml.dump(document, out)
