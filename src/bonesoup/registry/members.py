"""Which registered models are of a project: `bonesoup-7b-soup` begins with `bonesoup-` and is of another."""

import re

from mlflow.entities.model_registry import RegisteredModel

from bonesoup.registry.names import soup_name, versions
from bonesoup.registry.store import Store

# What follows the project's name, by the kind of the model.
FORMS = {"soup": "soup", "backbone": r"backbone-\d+", "merged": "merged-.+"}


def models(store: Store, prefix: str) -> list[RegisteredModel]:
    """The project's own soup, backbones and merged models, by name.

    A merged model whose name fits a project with a longer name too (`bonesoup-merged-x-merged-y`) is this one's only
    where one of its versions is of the same run as one of the soup.
    """
    # `_` is a wildcard of LIKE, so what the store finds is looked at again.
    found = store.client.search_registered_models(f"name LIKE '{prefix}-%'", max_results=1000)
    soups = [model.name for model in found if model.tags.get("kind") == "soup"]
    others = tuple(f"{name.removesuffix('-soup')}-merged-" for name in soups if name != soup_name(prefix))
    own = [
        model
        for model in found
        if (form := FORMS.get(model.tags.get("kind")))
        and re.fullmatch(f"{re.escape(prefix)}-{form}", model.name)
        and (not model.name.startswith(others) or runs(store, model.name) & runs(store, soup_name(prefix)))
    ]
    return sorted(own, key=lambda model: model.name)


def merged(store: Store, prefix: str) -> list[str]:
    return [model.name for model in models(store, prefix) if model.tags["kind"] == "merged"]


def runs(store: Store, name: str) -> set[str]:
    """What ties a model's versions to their runs."""
    return {version.tags.get("pipeline") for version in versions(store.client, name)} - {None}
