"""Decide which versions, models behind them and runs to keep in the MLflow store, and which to delete.

Of each model these versions stay: the newest, those with an alias, the targets of rollbacks, all from the same
pipeline as these, and the sources of copies under any name. Runs stay while they belong to a pipeline that is kept, or
are younger than the newest pipelines. A base goes when no version in the registry names it. Yardsticks, copies and
everything else are left alone: only what a registration of this project made can go, which the run that made it shows.
"""

import re
from dataclasses import dataclass, field

import mlflow
from mlflow.entities import LoggedModel, Run, ViewType
from mlflow.entities.model_registry import ModelVersion
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from bonesoup.registry.bases import BASE, DIGEST, STAGE
from bonesoup.registry.mirror import PARENT, STAGES
from bonesoup.registry.runs import FINGERPRINT
from bonesoup.registry.store import Store
from bonesoup.registry.versions import PREVIOUS, models, pages, reference, soup_name, versions

# Sources of a version: as registered, and as a copy of another version.
MODEL = re.compile(r"models:/+m-[0-9a-f]+")
COPY = re.compile(r"models:/+(?P<version>[^/]+/\d+)")


@dataclass(frozen=True)
class Retention:
    """Everything to keep and to delete.

    Attributes:
        kept, versions: the registry's versions to keep, and those to delete.
        models: records of models, with the files of versions, to delete.
        bases: versions of `<name>-base` to delete; their files lie in `runs`.
        runs: to delete.
        moved: run -> its new parent, as its present one is deleted.
    """

    kept: list[ModelVersion]
    versions: list[ModelVersion] = field(default_factory=list)
    models: list[LoggedModel] = field(default_factory=list)
    bases: list[ModelVersion] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    moved: dict[str, str] = field(default_factory=dict)


def decide(store: Store, prefix: str, keep: int) -> Retention:
    """Sort versions, models and runs of a project into kept and deleted.

    Args:
        prefix: prefix of the model names, `register.name`.
        keep: how many of the newest versions of each model, and of the newest pipelines, stay.
    """
    made = [run for run in all_runs(store, ViewType.ALL) if FINGERPRINT in run.data.tags]
    run_ids = {run.info.run_id for run in made}
    runs = [run for run in made if run.info.lifecycle_stage == "active"]
    # Neither name nor kind proves it: `a-merged-merged-b` may belong to the project `a-merged`, which has its own runs.
    by_model = [[v for v in versions(store.client, m.name) if v.run_id in run_ids] for m in models(store, prefix)]
    safe = {reference(version) for version in kept_versions(by_model, soup_name(prefix), keep)}
    mine = [version for of_model in by_model for version in of_model]
    going = {reference(v) for v in mine if not COPY.fullmatch(v.source or "")} - safe
    everything = registered(store)
    going -= copied(everything, going)
    gone = [version for version in mine if reference(version) in going]
    kept = [version for version in mine if reference(version) not in going]
    others = [version for version in everything if reference(version) not in going]
    cut = cut_off(runs, keep)
    sent = {run.info.run_id: run for run in runs if run.data.tags.get("stage") == STAGE and run.info.start_time < cut}
    bases = unnamed([version for version in others if version.run_id in sent], others)
    others = [version for version in others if version not in bases]
    sources = "\n".join(source(store, version) for version in others)
    lost, moved = lost_runs(store, runs, kept, cut)
    lost += sent.values()
    # Yardsticks and bases are versions with a run too.
    used = {version.run_id for version in others}
    lost = [run for run in lost if run.info.run_id not in used and run.info.run_id not in sources]
    orphaned = {version.source.removeprefix("models:/") for version in gone}
    records = [
        model
        for model in all_models(store)
        if model.source_run_id in run_ids
        and model.model_id not in sources
        and (model.model_id in orphaned or model.creation_timestamp < cut)
    ]
    return Retention(kept, gone, records, bases, lost, moved)


def registered(store: Store) -> list[ModelVersion]:
    """List every version of every model in the registry, whoever made it; without aliases."""
    return list(pages(lambda token: store.client.search_model_versions(page_token=token)))


def copied(everything: list[ModelVersion], gone: set[str]) -> set[str]:
    """Return the members of `gone` from which other versions were copied, directly or through others."""
    sources = {reference(version): version.source for version in everything}
    originals, todo = set(), [name for name in sources if name not in gone]
    while todo:
        copy = COPY.fullmatch(sources.get(todo.pop()) or "")
        if copy and copy["version"] in gone - originals:
            originals.add(copy["version"])
            todo.append(copy["version"])
    return originals


def unnamed(bases: list[ModelVersion], everything: list[ModelVersion]) -> list[ModelVersion]:
    """Return the bases that no version names, and none is a copy of.

    Args:
        everything: the versions that stay.
    """
    names = {version.tags.get(BASE) for version in everything}
    free = {reference(base) for base in bases if base.tags.get(DIGEST) not in names}
    free -= copied(everything, free)
    return [base for base in bases if reference(base) in free]


def source(store: Store, version: ModelVersion) -> str:
    """Return a URI with the id of the model or run that holds a version's files."""
    if MODEL.fullmatch(version.source or ""):
        return version.source
    # A source may be named by an alias that has moved since, or by a version that no longer exists.
    return store.client.get_model_version_download_uri(version.name, str(version.version)) or ""


def kept_versions(by_model: list[list[ModelVersion]], soup: str, keep: int) -> list[ModelVersion]:
    """Choose the versions to keep.

    Args:
        by_model: all versions of each model, oldest first.
        soup: name of the soup model, whose versions `previous_champion` names.
    """
    everything = [version for of_model in by_model for version in of_model]
    safe = [version for version in everything if version.aliases]
    recent = [version for of_model in by_model for version in of_model[-keep:]]
    safe += former_champions(everything, safe, soup)
    previous = {before(version, soup) for version in recent}
    safe += [version for version in everything if reference(version) in previous]
    # The merged models of a run are promoted and rolled back with its soup.
    together = {version.tags.get("pipeline") for version in safe} - {None}
    names = {reference(version) for version in safe + recent}
    return [v for v in everything if reference(v) in names or v.tags.get("pipeline") in together]


def before(version: ModelVersion, soup: str) -> str | None:
    """Name the champion that a version replaced."""
    number = version.tags.get(PREVIOUS)
    return f"{soup}/{number}" if number else None


def former_champions(everything: list[ModelVersion], start: list[ModelVersion], soup: str) -> list[ModelVersion]:
    """Follow rollback after rollback; return all versions they go back to."""
    have = {reference(version): version for version in everything}
    former, todo = {}, list(start)
    while todo:
        name = before(todo.pop(), soup)
        if name in have and name not in former:
            former[name] = have[name]
            todo.append(have[name])
    return list(former.values())


def cut_off(runs: list[Run], keep: int) -> int:
    """Return the start of the oldest of the `keep` newest pipelines; 0 if there are no more than that."""
    starts = sorted(run.info.start_time for run in runs if run.data.tags.get("stage") == PARENT)
    return starts[-keep] if len(starts) > keep else 0


def lost_runs(store: Store, runs: list[Run], kept: list[ModelVersion], cut: int) -> tuple[list[Run], dict[str, str]]:
    """Return the runs that no kept pipeline needs, and new parents for those that lose theirs.

    A stage whose results are the same in a later pipeline has one run, under the parent of the first.
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
        run_id, parent = run.info.run_id, run.data.tags.get(MLFLOW_PARENT_RUN_ID)
        if run.info.start_time >= cut or run_id in names or run_id in registering or parent in names:
            continue
        if run.data.tags[FINGERPRINT] in holder:
            moved[run_id] = holder[run.data.tags[FINGERPRINT]]
        elif parent or run.data.tags.get("stage") == PARENT:
            lost.append(run)
    return lost, moved


def stages(store: Store, parent: Run) -> list[str]:
    """Return the fingerprints of the stages of a pipeline; none if its registration was cut short."""
    if not any(item.path == STAGES for item in store.client.list_artifacts(parent.info.run_id)):
        return []
    return list(mlflow.artifacts.load_dict(f"runs:/{parent.info.run_id}/{STAGES}").values())


def all_runs(store: Store, view: int = ViewType.ACTIVE_ONLY) -> list[Run]:
    return list(pages(lambda token: store.client.search_runs([store.experiment], "", view, page_token=token)))


def all_models(store: Store) -> list[LoggedModel]:
    return list(pages(lambda token: store.client.search_logged_models([store.experiment], page_token=token)))
