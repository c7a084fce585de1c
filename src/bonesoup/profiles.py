"""Profiles: overlays on the embedded default, written into params.yaml so that git and dvc.lock record what ran."""

from pathlib import Path

from ruamel.yaml import YAML

from bonesoup import params

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


def compose(name: str, data: str | None = None) -> dict:
    """The settings of a profile, as the YAML document to write.

    Args:
        data: a path that replaces the profile's `data.path`.

    Raises:
        ValueError: no such profile, or its settings are wrong.
    """
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
    if data:
        document["data"]["path"] = data
        document["data"] |= {"hub": None, "revision": None}
    params.check(plain(document), f"profile {name}")
    return document


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


def write(name: str, data: str | None = None, path: Path = params.PARAMS) -> None:
    """Write a profile into params.yaml."""
    document = compose(name, data)
    with open(path, "w") as out:
        yaml.dump(document, out)
