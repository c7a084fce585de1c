"""Versions as people and programs name them: `3`, `bonesoup-soup/3`, `@champion`, `models:/bonesoup-soup@champion`."""

import re

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode

NAME = r"[a-z][a-z0-9_-]{0,199}"
# A name, then a number or an alias; without the name they are of the default model.
REFERENCE = re.compile(rf"(?:(?P<model>{NAME})(?:/(?P<of>[1-9]\d{{0,8}})|@(?P<at>{NAME}))|([1-9]\d{{0,8}})|@({NAME}))")
CHAMPION = "champion"


def soup_name(prefix: str) -> str:
    """The registered name of the steerable soup; `prefix` is register.name."""
    return f"{prefix}-soup"


def parse(text: str, default_model: str) -> tuple[str, str]:
    """(model, "3" or "@alias") of a reference.

    Raises:
        ValueError: it is none; nothing else reaches the store or a path.
    """
    found = REFERENCE.fullmatch(text.strip().removeprefix("models:/"))
    if found is None:
        raise ValueError(
            f"{text!r} names no version; expected 3, {default_model}/3, @{CHAMPION}, {default_model}@{CHAMPION} or "
            f"models:/{default_model}/3"
        )
    model, of, at, number, alias = found.groups()
    which = of or number
    return model or default_model, which or f"@{at or alias}"


def find(client: MlflowClient, text: str, default_model: str) -> ModelVersion:
    """The registered version of a reference, with its aliases.

    Raises:
        ValueError: it is no reference, or the registry has no such version; lists what it has.
    """
    model, which = parse(text, default_model)
    have = versions(client, model)
    for version in have:
        if which == str(version.version) or which[1:] in version.aliases and which[0] == "@":
            return version
    if not have:
        raise ValueError(f"{text}: the registry has no version of {model}; `bonesoup models` lists what it has")
    numbers = ", ".join(str(version.version) for version in have)
    aliases = [f"@{alias} = {version.version}" for version in have for alias in version.aliases]
    raise ValueError(f"{model} has no {which}; it has versions {numbers}; aliases: {', '.join(aliases) or 'none'}")


def versions(client: MlflowClient, model: str) -> list[ModelVersion]:
    """Every version of a model with its aliases, oldest first; none where the model does not exist."""
    found, token = [], None
    while True:
        page = client.search_model_versions(f"name='{model}'", max_results=1000, page_token=token)
        found += page
        if not (token := page.token):
            break
    # A search leaves the aliases out.
    aliases = client.get_registered_model(model).aliases if found else {}
    for version in found:
        version.aliases = [name for name, number in aliases.items() if str(number) == str(version.version)]
    return sorted(found, key=lambda version: int(version.version))


def aliased(client: MlflowClient, model: str, alias: str) -> ModelVersion | None:
    """The version that has an alias, read afresh; None where none has, or the model does not exist."""
    try:
        number = client.get_registered_model(model).aliases.get(alias)
        return client.get_model_version(model, str(number)) if number is not None else None
    except MlflowException as error:
        if error.error_code == ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
            return None
        raise


def reference(version: ModelVersion) -> str:
    return f"{version.name}/{version.version}"
