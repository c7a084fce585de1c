"""Read params.yaml and check it; report all faults in one ValueError."""

import re
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from bonesoup.settings.pins import unpinned
from bonesoup.settings.schema import FILL, Check, Settings

SCHEMA = 1
PARAMS = Path("params.yaml")


def load(path: Path = PARAMS) -> Settings:
    """Read and check a params file.

    Raises:
        ValueError: the file is missing or not YAML, or any setting is wrong; lists every fault.
    """
    if not path.is_file():
        raise ValueError(
            f"{path.absolute()} does not exist: run from the project's root, or write it with `bonesoup profile`"
        )
    return check(parse_yaml(path.read_bytes(), str(path)), str(path))


def parse_yaml(content: bytes, name: str) -> Any:
    """Read YAML as plain data; `name` stands for the file in the message.

    Raises:
        ValueError: it is not YAML, or not UTF-8.
    """
    try:
        return YAML(typ="safe").load(content.decode())
    except (YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{name} is not valid YAML in UTF-8: {error}") from None


def check(raw: Any, path: str = "params", pinned: bool = True) -> Settings:
    """Validate plain data as settings; `path` names it in the message.

    Args:
        pinned: refuse Hub ids without a commit. Off only to look the commits up, or for settings that are not run.

    Raises:
        ValueError: any setting is wrong; lists every fault.
    """
    if not isinstance(raw, dict):
        raise ValueError(f"{path} must be a mapping of settings, found {type(raw).__name__}")
    if raw.get("schema") != SCHEMA:
        raise ValueError(
            f"{path} has schema {raw.get('schema')!r}, this version reads {SCHEMA}: write a fresh one with "
            "`bonesoup profile NAME` and carry your changes over"
        )
    faults, collected, settings = [], Check(), None
    try:
        settings = Settings.model_validate(raw, context=collected)
    except ValidationError as error:
        faults += faults_of(error, raw)
    if pinned:
        faults += [unpinned(pin) for pin in collected.pins if not pin.revision]
    faults += collected.faults
    if faults:
        raise refusal(str(path), faults)
    return settings


def refusal(where: str, faults: list[str]) -> ValueError:
    """Make the error that lists the faults of a file."""
    listing = "\n".join(f"  - {fault}" for fault in faults)
    return ValueError(f"{where} has {len(faults)} fault{'s' * (len(faults) > 1)}:\n{listing}")


def faults_of(error: ValidationError, raw: Any) -> list[str]:
    """Write pydantic's errors as 'key: what is wrong', one line a key.

    Args:
        raw: the validated data. Parts of a location that are not keys in it, such as the kinds of a union, are left
            out.
    """
    messages: dict[str, list[str]] = {}
    for item in error.errors():
        key = _key(item, raw)
        # Any of the kinds that a union offers would do.
        messages.setdefault(key, []).append(_message(item, key))
    return [f"{key}: {', or '.join(dict.fromkeys(listed))}" for key, listed in messages.items()]


def _key(item: dict, raw: Any) -> str:
    parts, value = [], raw
    for part in item["loc"]:
        known = part in value if isinstance(value, dict) else isinstance(value, list) and isinstance(part, int)
        if known or (part == item["loc"][-1] and item["type"] == "missing"):
            parts.append(str(part))
            value = value[part] if known else None
    return ".".join(parts)


def _message(item: dict, key: str) -> str:
    if item["type"] == "extra_forbidden":
        return "unknown key"
    if item["type"] == "missing":
        filled = key == "policies" or re.fullmatch(r"policies\.[^.]+\.slots|rewards\.[^.]+\.source", key)
        return f"missing; {FILL}" if filled else "missing"
    return f"{item['msg']}, found {item['input']!r}"
