"""Write a profile, an overlay on the embedded default, into params.yaml, so that git and dvc.lock record what ran."""

from itertools import takewhile
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from bonesoup.files import appearing
from bonesoup.settings import params, pins, schema
from bonesoup.settings.derived import CANDIDATES, derived

PROFILES = Path("profiles")
DEFAULT = "embedded"
# Keyed by objective, group or preference, so an overlay replaces them whole.
WHOLE = {"rewards", "policies", "preferences"}
# The key after which a filled-in value is inserted.
FOLLOWS = {"policies": "methods", "source": "kind"}

yaml = YAML()
yaml.width = 140
yaml.preserve_quotes = True
yaml.representer.add_representer(type(None), lambda r, _: r.represent_scalar("tag:yaml.org,2002:null", "null"))


def names() -> list[str]:
    return sorted(path.stem for path in PROFILES.glob("*.yaml"))


def compose(name: str | None, data: str | None = None, changes: dict[str, Any] | None = None) -> dict:
    """Return the checked settings of a profile as the YAML document to write, comments included.

    Args:
        name: a profile; None for the present params.yaml.
        data: a path that replaces the profile's `data.path`.
        changes: dotted key -> value, set last.

    Raises:
        ValueError: no such profile, key or file, or the settings are wrong.
    """
    return _composed(name, data, changes, pin=False)[0]


def _composed(name: str | None, data: str | None, changes: dict[str, Any] | None, pin: bool) -> tuple[dict, list[str]]:
    """Return the document of `compose`, and the dotted keys that follow from the rest and were filled in."""
    document, filled = _changed(name, data, changes)
    if pin:
        for missing in params.check(plain(document), _where(name), pinned=False).pins():
            if not missing.revision:
                *outer, last = missing.key.split(".")
                _section(document, outer)[last] = pins.newest(missing)
    settings = params.check(plain(document), _where(name))
    filled += _fill_defaults(document, settings)
    if data:
        for part in settings.data.parts():
            if not Path(part.path).is_file():
                listed = ", ".join(settings.data.files or ())
                expected = f"a folder with a file for each of {listed}" if listed else "a file"
                raise ValueError(f"--data {data}: expected {expected}, and {part.path} is no file")
    return document, filled


def draft(name: str | None, data: str | None = None, changes: dict[str, Any] | None = None) -> schema.Settings:
    """Return the settings of a profile to look at, not to run: nothing has to be pinned. Arguments as of `compose`."""
    return params.check(plain(_changed(name, data, changes)[0]), _where(name), pinned=False)


def _changed(name: str | None, data: str | None, changes: dict[str, Any] | None) -> tuple[dict, list[str]]:
    document = _profile(name) if name is not None else yaml.load(params.PARAMS.read_text())
    filled = fill(document, {})
    before = derived(plain(document))
    if data:
        if not Path(data).exists():
            raise ValueError(f"--data {data}: no such file")
        document["data"]["path"] = data
        document["data"] |= {"hub": None, "revision": None}
    for key, value in (changes or {}).items():
        _set(document, key, value)
    again = fill(document, {key: value for key, value in before.items() if key not in (changes or {})})
    return document, list(dict.fromkeys(filled + again))


def fill(document: dict, before: dict[str, Any]) -> list[str]:
    """Set values that follow from other settings, if they are missing or still follow from the settings `before` a
    change.

    Returns:
        The dotted keys that were set.
    """
    filled = []
    for key, value in derived(plain(document)).items():
        *outer, last = key.split(".")
        if (section := _section(document, outer)) is None:
            continue
        present = plain(section.get(last))
        if present == value or (present is not None and key not in CANDIDATES and present != before.get(key)):
            continue
        if last not in section and FOLLOWS.get(last) in section:
            # Insert it next to the setting it follows from, not at the end of the file.
            section.insert(list(section).index(FOLLOWS[last]) + 1, last, _styled(value))
        else:
            section[last] = _styled(value)
        filled.append(key)
    return filled


def _section(document: dict, keys: list[str]) -> dict | None:
    """Return the section under these keys, one inside the other; None if the document has none."""
    for key in keys:
        document = document.get(key) if isinstance(document, dict) else None
    return document if isinstance(document, dict) else None


def _fill_defaults(document: dict, settings: schema.Settings) -> list[str]:
    """Write out what an older file, or a section that was set as a whole, leaves to the defaults of the code.

    DVC refuses a stage that reads a missing key.

    Returns:
        The dotted keys that were set.
    """
    filled = []
    for name, section in settings.model_dump(mode="json", by_alias=True).items():
        if name in WHOLE or not isinstance(section, dict) or not isinstance(document.get(name), dict):
            continue
        for key, value in section.items():
            if key not in document[name]:
                document[name][key] = _styled(value)
                filled.append(f"{name}.{key}")
    return filled


def _styled(value: Any) -> Any:
    """Write lists and the innermost mappings on one line."""
    if isinstance(value, dict):
        styled = CommentedMap({key: _styled(item) for key, item in value.items()})
        if not any(isinstance(item, dict) for item in value.values()):
            styled.fa.set_flow_style()
        return styled
    if isinstance(value, list):
        styled = CommentedSeq(map(_styled, value))
        styled.fa.set_flow_style()
        return styled
    # Inside braces ruamel writes `module:name` without the quotes that its reader needs.
    return DoubleQuotedScalarString(value) if isinstance(value, str) and ":" in value else value


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
        heading = [line[1:].lstrip() for line in takewhile(lambda line: line.startswith("#"), text.splitlines())]
        if heading:
            document.yaml_set_start_comment("\n".join(heading).rstrip())
    return document


def _set(document: dict, key: str, value: Any) -> None:
    """Set one dotted key that the document has."""
    *outer, last = key.split(".")
    section = _section(document, outer)
    if section is None or last not in section:
        raise ValueError(f"no setting {key!r} in params.yaml: docs/settings.md lists them")
    section[last] = _styled(plain(value))


def parse_change(text: str) -> tuple[str, Any]:
    """Read 'rl.updates=60' as ('rl.updates', 60); the value is YAML."""
    key, given, value = text.partition("=")
    if not given:
        raise ValueError(f"--set {text!r}: expected key=value, such as rl.updates=60")
    return key, params.parse_yaml(value.encode(), f"the value of {key}")


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
) -> list[str]:
    """Write a profile, or the present settings with changes, into params.yaml.

    Args:
        pin: look up the newest commit of every Hub id without one.

    Returns:
        The dotted keys that were filled in from the rest.

    Raises:
        ValueError: see `compose`.
        ConnectionError: the Hub does not answer, or does not know an id.
    """
    document, filled = _composed(name, data, changes, pin)
    with appearing(path) as temporary, open(temporary, "w") as out:
        yaml.dump(document, out)
    return filled
