"""What of the MLflow store stays and what goes: versions, the models behind them, runs.

Kept are, of each model, the newest versions, those with an alias, those that rollbacks go back to, all of the same
pipeline as these, and what versions of any model in the registry were copied from. Runs stay while they belong to a
pipeline that is kept, or are younger than the newest pipelines. Yardsticks, copies and whatever else the store holds
are left alone: only what a registration of this project made can go, and that is told by its run.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import mlflow
from mlflow.entities import LoggedModel, Run, ViewType
from mlflow.entities.model_registry import ModelVersion
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from bonesoup.promotion import champion
from bonesoup.registry import members
from bonesoup.registry.names import reference, soup_name, versions
from bonesoup.registry.runs import FINGERPRINT
from bonesoup.registry.store import Store

PARENT = "pipeline"
STAGES = "stages.json"
# Sources: of a version as it is registered, and of one that was copied from another.
MODEL = re.compile(r"models:/+m-[0-9a-f]+")
COPY = re.compile(r"models:/+(?P<version>[^/]+/\d+)")


@dataclass(frozen=True)
class Retention:
    """What stays and what goes.

    Attributes:
        kept, versions: of the registry: those that stay, those that go.
        models: records of models, with the files of versions, that go.
        runs: that go.
        moved: run -> the parent it gets, as its own goes.
    """

    kept: list[ModelVersion]
    versions: list[ModelVersion] = field(default_factory=list)
    models: list[LoggedModel] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    moved: dict[str, str] = field(default_factory=dict)

    @property
    def places(self) -> list[str]:
        """URIs of the files that go."""
        return [model.artifact_location for model in self.models] + [run.info.artifact_uri for run in self.runs]


def decide(store: Store, prefix: str, keep: int) -> Retention:
    """Sort versions, models and runs of a project.

    Args:
        prefix: of the model names, `register.name`.
        keep: how many of the newest versions of each model, and of the newest pipelines, stay.
    """
    made = [run for run in all_runs(store, ViewType.ALL) if FINGERPRINT in run.data.tags]
    own = {run.info.run_id for run in made}
    runs = [run for run in made if run.info.lifecycle_stage == "active"]
    # Neither name nor kind tell for sure: `a-merged-merged-b` may be of the project `a-merged`, which has its own runs.
    have = [[v for v in versions(store.client, m.name) if v.run_id in own] for m in members.models(store, prefix)]
    names = {reference(version) for version in kept_versions(have, soup_name(prefix), keep)}
    mine = [version for of_one in have for version in of_one]
    candidates = {reference(v) for v in mine if not COPY.fullmatch(v.source or "")} - names
    everything = registered(store)
    candidates -= copied(everything, candidates)
    gone = [version for version in mine if reference(version) in candidates]
    kept = [version for version in mine if reference(version) not in candidates]
    others = [version for version in everything if reference(version) not in candidates]
    places = "\n".join(place(store, version) for version in others)
    cut = cut_off(runs, keep)
    lost, moved = lost_runs(store, runs, kept, cut)
    # Yardsticks too are versions with a run.
    used = {version.run_id for version in others}
    lost = [run for run in lost if run.info.run_id not in used and run.info.run_id not in places]
    sources = {version.source.removeprefix("models:/") for version in gone}
    records = [
        model
        for model in all_models(store)
        if model.source_run_id in own
        and model.model_id not in places
        and (model.model_id in sources or model.creation_timestamp < cut)
    ]
    return Retention(kept, gone, records, lost, moved)


def registered(store: Store) -> list[ModelVersion]:
    """Every version of every model in the registry, whosever it is; without aliases."""
    return list(pages(lambda token: store.client.search_model_versions(page_token=token)))


def copied(everything: list[ModelVersion], gone: set[str]) -> set[str]:
    """Those of `gone` that versions outside of it were copied from, directly or by way of others."""
    sources = {reference(version): version.source for version in everything}
    found, todo = set(), [name for name in sources if name not in gone]
    while todo:
        copy = COPY.fullmatch(sources.get(todo.pop()) or "")
        if copy and copy["version"] in gone - found:
            found.add(copy["version"])
            todo.append(copy["version"])
    return found


def place(store: Store, version: ModelVersion) -> str:
    """Text with the id of the model or run that holds a version's files."""
    if MODEL.fullmatch(version.source or ""):
        return version.source
    # A source may be named by an alias that has moved since, or by a version that is gone.
    return store.client.get_model_version_download_uri(version.name, str(version.version)) or ""


def kept_versions(have: list[list[ModelVersion]], soup: str, keep: int) -> list[ModelVersion]:
    """The versions that stay.

    Args:
        have: all versions of each model, oldest first.
        soup: the model that `previous_champion` is about.
    """
    everything = [version for of_one in have for version in of_one]
    safe = [version for version in everything if version.aliases]
    recent = [version for of_one in have for version in of_one[-keep:]]
    safe += former_champions(everything, safe, soup)
    previous = {before(version, soup) for version in recent}
    safe += [version for version in everything if reference(version) in previous]
    # The merged models of a run are promoted and rolled back with its soup.
    together = {version.tags.get("pipeline") for version in safe} - {None}
    names = {reference(version) for version in safe + recent}
    return [v for v in everything if reference(v) in names or v.tags.get("pipeline") in together]


def before(version: ModelVersion, soup: str) -> str | None:
    """The champion before a version was one."""
    number = version.tags.get(champion.PREVIOUS)
    return f"{soup}/{number}" if number else None


def former_champions(everything: list[ModelVersion], start: list[ModelVersion], soup: str) -> list[ModelVersion]:
    """All that one rollback after another goes back to."""
    have = {reference(version): version for version in everything}
    found, todo = {}, list(start)
    while todo:
        name = before(todo.pop(), soup)
        if name in have and name not in found:
            found[name] = have[name]
            todo.append(have[name])
    return list(found.values())


def cut_off(runs: list[Run], keep: int) -> int:
    """When the oldest of the newest pipelines began; 0 where there are no more than are kept."""
    starts = sorted(run.info.start_time for run in runs if run.data.tags.get("stage") == PARENT)
    return starts[-keep] if len(starts) > keep else 0


def lost_runs(store: Store, runs: list[Run], kept: list[ModelVersion], cut: int) -> tuple[list[Run], dict[str, str]]:
    """Runs that no kept pipeline needs, and new parents for those that lose theirs.

    A run that came out the same in a later pipeline is not sent twice: it lies under the first one's parent.
    """
    pipelines = {version.tags.get("pipeline") for version in kept}
    young = {run.data.tags.get(MLFLOW_PARENT_RUN_ID) for run in runs if run.info.start_time >= cut}
    parents = [
        run
        for run in runs
        if run.data.tags.get("stage") == PARENT
        and (run.info.start_time >= cut or run.data.tags[FINGERPRINT] in pipelines or run.info.run_id in young)
    ]
    names = {run.info.run_id for run in parents}
    holder = {fingerprint: run.info.run_id for run in parents for fingerprint in stages(store, run)}
    registering = {version.run_id for version in kept}
    lost, moved = [], {}
    for run in runs:
        own, parent = run.info.run_id, run.data.tags.get(MLFLOW_PARENT_RUN_ID)
        if run.info.start_time >= cut or own in names or own in registering or parent in names:
            continue
        if run.data.tags[FINGERPRINT] in holder:
            moved[own] = holder[run.data.tags[FINGERPRINT]]
        elif parent or run.data.tags.get("stage") == PARENT:
            lost.append(run)
    return lost, moved


def stages(store: Store, parent: Run) -> list[str]:
    """Fingerprints of the stages of a pipeline; none where its registration was cut short."""
    if not any(item.path == STAGES for item in store.client.list_artifacts(parent.info.run_id)):
        return []
    return list(mlflow.artifacts.load_dict(f"runs:/{parent.info.run_id}/{STAGES}").values())


def all_runs(store: Store, view: int = ViewType.ACTIVE_ONLY) -> list[Run]:
    return list(pages(lambda token: store.client.search_runs([store.experiment], "", view, page_token=token)))


def all_models(store: Store) -> list[LoggedModel]:
    return list(pages(lambda token: store.client.search_logged_models([store.experiment], page_token=token)))


def pages(call: Callable) -> Iterator:
    """Every item of a paged search."""
    token = None
    while True:
        page = call(token)
        yield from page
        if not (token := page.token):
            return
