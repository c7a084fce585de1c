"""Registered versions: how people name them, how to look them up, and which models belong to a project."""

import re
from collections.abc import Callable, Iterator

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, RESOURCE_DOES_NOT_EXIST, ErrorCode
from mlflow.store.entities import PagedList

from bonesoup.method.methods import METHODS
from bonesoup.registry.store import Store

# MLflow allows letters, digits, _ and - in an alias, in any case.
MODEL, ALIAS, NUMBER = r"\w[\w-]{0,199}", r"[\w-]{1,255}", r"[1-9][0-9]{0,8}"
# A model, then a number or an alias; without a model the default one is meant.
REFERENCE = re.compile(rf"(?:(?P<model>{MODEL})(?:/(?P<of>{NUMBER})|@(?P<at>{ALIAS}))|({NUMBER})|@({ALIAS}))")
# Aliases and tags that a promotion writes; a demoted version keeps its alias until there is another champion.
CHAMPION, DEMOTED = "champion", "demoted"
DECISION, PREVIOUS = "decision", "previous_champion"
# Ending of a model's name after the project's name, by its kind; a model with one policy has its slot's name.
_SLOTS = sorted({method.policies.kind for method in METHODS.values() if method.servable})
FORMS = {"soup": "soup", "backbone": rf"(?:{'|'.join(_SLOTS)})-\d+", "merged": "merged-.+"}


def soup_name(prefix: str) -> str:
    """Return the registered name of the steerable soup; `prefix` is register.name."""
    return f"{prefix}-soup"


def reference(version: ModelVersion) -> str:
    """Return the text that names a version, such as bonesoup-soup/3."""
    return f"{version.name}/{version.version}"


def parse(text: str, default_model: str) -> tuple[str, str]:
    """Split a reference into (model, "3" or "@alias").

    Raises:
        ValueError: the text is no reference. Unchecked text would reach the store or a path.
    """
    match = REFERENCE.fullmatch(text.strip().removeprefix("models:/"))
    if match is None:
        raise ValueError(
            f"{text!r} names no version; expected 3, {default_model}/3, @{CHAMPION}, {default_model}@{CHAMPION} or "
            f"models:/{default_model}/3"
        )
    model, of, at, number, alias = match.groups()
    return model or default_model, of or number or f"@{at or alias}"


def find(client: MlflowClient, text: str, default_model: str) -> ModelVersion:
    """Look up the version that a reference names, with its aliases.

    Raises:
        ValueError: the text is no reference, or the registry has no such version; lists those it has.
    """
    model, which = parse(text, default_model)
    have = versions(client, model)
    for version in have:
        if which == str(version.version) or (which[0] == "@" and which[1:] in version.aliases):
            return version
    if not have:
        raise ValueError(f"{text}: the registry has no version of {model}; `bonesoup models` lists those it has")
    numbers = ", ".join(str(version.version) for version in have)
    aliases = [f"@{alias} = {version.version}" for version in have for alias in version.aliases]
    raise ValueError(f"{model} has no {which}; it has versions {numbers}; aliases: {', '.join(aliases) or 'none'}")


def versions(client: MlflowClient, model: str) -> list[ModelVersion]:
    """List every version of a model with its aliases, oldest first; empty if there is no such model."""
    have = list(pages(lambda token: client.search_model_versions(f"name='{model}'", page_token=token)))
    # A search result has no aliases.
    aliases = client.get_registered_model(model).aliases if have else {}
    for version in have:
        version.aliases = [name for name, number in aliases.items() if str(number) == str(version.version)]
    return sorted(have, key=lambda version: int(version.version))


def pages(search: Callable[[str | None], PagedList]) -> Iterator:
    """Yield every item of a search, which takes the token of a page."""
    token = None
    while True:
        page = search(token)
        yield from page
        if not (token := page.token):
            return


def newest_soup(client: MlflowClient, prefix: str) -> ModelVersion:
    """Return the newest steerable soup.

    Raises:
        ValueError: there is none.
    """
    if not (have := versions(client, soup_name(prefix))):
        raise ValueError(
            f"the registry has no version of {soup_name(prefix)}; `bonesoup register` sends those of the present run"
        )
    return have[-1]


def aliased(client: MlflowClient, model: str, alias: str) -> ModelVersion | None:
    """Return the version that has an alias now; None if there is no such version or model."""
    try:
        number = client.get_registered_model(model).aliases.get(alias)
        return client.get_model_version(model, str(number)) if number is not None else None
    except MlflowException as error:
        if error.error_code == ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
            return None
        raise


def ensure_model(client: MlflowClient, name: str, kind: str) -> None:
    """Create a registered model unless it exists."""
    try:
        client.create_registered_model(name, {"kind": kind})
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
            raise


def models(store: Store, prefix: str) -> list[RegisteredModel]:
    """List the soup, backbones and merged models of a project, by name.

    A prefix is not enough: `bonesoup-7b-soup` belongs to project `bonesoup-7b`. A merged model whose name fits a
    project with a longer name too (`bonesoup-merged-x-merged-y`) is this project's only if one of its versions comes
    from the same run as one of the soup.
    """
    # `_` is a wildcard of LIKE, so names are matched again here.
    like = f"name LIKE '{prefix}-%'"
    candidates = list(pages(lambda token: store.client.search_registered_models(like, page_token=token)))
    soups = [model.name for model in candidates if model.tags.get("kind") == "soup"]
    others = tuple(f"{name.removesuffix('-soup')}-merged-" for name in soups if name != soup_name(prefix))

    def runs(name: str) -> set[str | None]:
        return {version.tags.get("pipeline") for version in versions(store.client, name)} - {None}

    members = [
        model
        for model in candidates
        if (form := FORMS.get(model.tags.get("kind")))
        and re.fullmatch(f"{re.escape(prefix)}-{form}", model.name)
        and (not model.name.startswith(others) or runs(model.name) & runs(soup_name(prefix)))
    ]
    return sorted(members, key=lambda model: model.name)
