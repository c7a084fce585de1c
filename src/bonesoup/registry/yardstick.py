"""The yardstick for champion and challenger: prompts, judges, scale, grid and statistics.

Two versions are comparable only on the same yardstick, identified by its digest. It is a folder, so that it outlives
the pipeline that made it:

    yardstick.json   everything below but the prompts
    prompts.jsonl    {"id", "prompt": chat messages}
    judges/NAME/     the reward that judges: reward.json and, if it is learned, its model; and judge/reward.json, the
                     head that trained no policy, if it has one
    words.yaml       the word tables behind the gold score, if the task has one

The registry keeps each as a version of `<name>-yardstick`; the adopted one has the alias `current`.
"""

import shutil
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities.model_registry import ModelVersion
from ruamel.yaml import YAML

from bonesoup.evaluation.statistics import Statistics
from bonesoup.files import digest, file_digest, read_json, read_jsonl, work_folder, write_json, write_jsonl
from bonesoup.paths import NORMALISER, PROMPTS, REWARDS
from bonesoup.registry import lineage, runs
from bonesoup.registry.lineage import Code
from bonesoup.registry.store import Store
from bonesoup.registry.versions import aliased, ensure_model, reference, versions
from bonesoup.rewards.head import JUDGE

CURRENT = "current"
FIRST = "the first yardstick, adopted at the first registration"
FOLDER = "yardstick"
# Fields of a yardstick that are not in yardstick.json.
APART = {"prompts", "folders", "tables"}
DIGEST, REASON, ADOPTED, COMMIT = "digest", "reason", "adopted", "git_commit"


@dataclass(frozen=True)
class Yardstick:
    """A yardstick in memory, with the paths of its judges.

    Attributes:
        prompts: {"id", "prompt": chat messages}, in the order that pairs them.
        judges: objective -> digest of its reward, with that of the head which trained no policy.
        normaliser: {"mean", "std"} per objective; for the gold score the same under "gold", or None; and for the heads
            that trained no policy under "judge", if there are any.
        words: digest of the word tables behind the gold score; None if the task has no gold score.
        parts: steps of the preference grid. Other names are those of params.yaml.
        folders, tables: current paths of judges and word tables; not part of its identity.
    """

    objectives: tuple[str, ...]
    prompts: list[dict]
    judges: dict[str, str]
    normaliser: dict
    words: str | None
    parts: int
    references: tuple[float, ...]
    interior: float
    generation: dict
    seed: int
    bootstrap: int
    confidence: float
    folders: dict[str, Path] = field(compare=False)
    tables: Path | None = field(compare=False)

    @property
    def statistics(self) -> Statistics:
        """Return the settings for estimates on this yardstick."""
        return Statistics(self.bootstrap, self.confidence, self.seed)

    @property
    def digest(self) -> str:
        """Return the digest that identifies the yardstick."""
        return digest(self.facts(), self.prompts)

    def facts(self) -> dict[str, Any]:
        """Return the content of yardstick.json."""
        facts = {item.name: getattr(self, item.name) for item in fields(self) if item.name not in APART}
        return facts | {"objectives": list(self.objectives), "references": list(self.references)}

    def on(self, prompts: list[dict], gold: bool) -> "Yardstick":
        """Return the same judges and scale on other prompts.

        Args:
            gold: the true score of all of them is known.
        """
        if gold or self.words is None:
            return replace(self, prompts=prompts)
        return replace(self, prompts=prompts, words=None, tables=None, normaliser=self.normaliser | {"gold": None})


def of_pipeline(root: Path, settings: dict) -> Yardstick | None:
    """Return the yardstick that the evaluation of the run in out/ used; None if a part of it does not exist yet.

    Args:
        settings: params.yaml as plain data.
    """
    names, evaluation = settings["objectives"], settings["evaluation"]
    folders = {name: root / REWARDS / name for name in names}
    needed = [root / PROMPTS, root / NORMALISER, *(folder / "reward.json" for folder in folders.values())]
    if not all(path.is_file() for path in needed):
        return None
    rows = [row for row in read_jsonl(root / PROMPTS) if row["split"] == "test"][: evaluation["samples"]]
    if not rows:
        return None
    scale = read_json(root / NORMALISER)
    gold = scale["gold"]
    held_out = {"judge": _moments(scale["judge"])} if "judge" in scale else {}
    tables = root / settings["data"]["path"] if gold else None
    return Yardstick(
        objectives=tuple(names),
        prompts=[{"id": row["id"], "prompt": row["prompt"]} for row in rows],
        judges={name: judge_digest(root, folder) for name, folder in folders.items()},
        normaliser=_moments(scale) | {"gold": _moments(gold) if gold else None} | held_out,
        words=file_digest(tables) if tables else None,
        parts=evaluation["parts"],
        references=tuple(evaluation["references"]),
        interior=evaluation["interior"],
        generation=dict(settings["generation"]),
        seed=settings["seed"],
        bootstrap=evaluation["bootstrap"],
        confidence=evaluation["confidence"],
        folders=folders,
        tables=tables,
    )


def difference(yardstick: Yardstick, report: dict) -> str | None:
    """Name the first setting in which a report differs from this yardstick; None if it matches.

    If settings have changed since out/metrics/report.json was written, its numbers are not scores on the present
    yardstick.
    """
    present = yardstick.facts() | {"prompts": len(yardstick.prompts)}
    for name in ("objectives", "references", "interior", "confidence", "bootstrap", "prompts"):
        if report[name] != present[name]:
            return f"{name} was {report[name]} and is {present[name]}"
    return None


def _moments(scale: dict) -> dict:
    return {"mean": scale["mean"], "std": scale["std"]}


def judge(root: Path, folder: Path) -> tuple[dict, Path | None]:
    """Return reward.json and the model's folder, which may be a local path named in the settings."""
    spec = read_json(folder / "reward.json")
    named, model = spec.get("model"), folder / "model"
    if named and (root / named).is_dir():
        return spec | {"model": None}, root / named
    # The remaining kinds are a Hub id, pinned by its revision, and a function, identified by the digest of its source.
    return spec | {"model": named}, model if model.is_dir() else None


def judge_digest(root: Path, folder: Path) -> str:
    """Digest what `judge` finds, and the second head where there is one; both are on the same model."""
    spec, model = judge(root, folder)
    second = [judge(root, folder / JUDGE)[0]] if (folder / JUDGE).is_dir() else []
    return digest(spec, file_digest(model) if model else None, *second)


def write(yardstick: Yardstick, root: Path, out: Path) -> None:
    """Write the folder `out` with copies of judges and tables, so that it outlives the pipeline."""
    out.mkdir(parents=True)
    write_json(out / "yardstick.json", yardstick.facts())
    write_jsonl(out / "prompts.jsonl", yardstick.prompts)
    for name, folder in yardstick.folders.items():
        spec, model = judge(root, folder)
        write_json(out / "judges" / name / "reward.json", spec)
        if model:
            shutil.copytree(model, out / "judges" / name / "model")
        if (folder / JUDGE).is_dir():
            write_json(out / "judges" / name / JUDGE / "reward.json", judge(root, folder / JUDGE)[0])
    if yardstick.tables:
        shutil.copyfile(yardstick.tables, out / "words.yaml")


def read(folder: Path) -> Yardstick:
    """Read a folder that `write` made.

    Raises:
        ValueError: a judge or the tables have changed since.
    """
    facts = read_json(folder / "yardstick.json")
    known = {item.name for item in fields(Yardstick)} - APART
    if set(facts) != known:
        raise ValueError(f"{folder / 'yardstick.json'} has {sorted(facts)}, expected {sorted(known)}")
    folders = {name: folder / "judges" / name for name in facts["objectives"]}
    for name, path in folders.items():
        if (now := judge_digest(folder, path)) != facts["judges"][name]:
            raise ValueError(
                f"the yardstick's judge {name} has digest {now}, recorded is {facts['judges'][name]}: its files were "
                "changed in the store; adopt a new yardstick with `bonesoup yardstick --adopt`"
            )
    tables = folder / "words.yaml" if facts["words"] else None
    if tables and (now := file_digest(tables)) != facts["words"]:
        raise ValueError(f"the yardstick's word tables have digest {now}, recorded is {facts['words']}")
    facts |= {"objectives": tuple(facts["objectives"]), "references": tuple(facts["references"])}
    return Yardstick(**facts, prompts=read_jsonl(folder / "prompts.jsonl"), folders=folders, tables=tables)


def model_name(prefix: str) -> str:
    """Return the registered name of a project's yardstick."""
    return f"{prefix}-yardstick"


def current(store: Store, prefix: str) -> ModelVersion | None:
    """Return the adopted version; None before the first registration."""
    return aliased(store.client, model_name(prefix), CURRENT)


def load(store: Store, prefix: str, work: Path) -> Yardstick:
    """Download the adopted yardstick into the folder `work`; its judges stay there.

    Raises:
        ValueError: none has been adopted, or its files were changed in the store.
    """
    version = current(store, prefix)
    if version is None:
        raise ValueError(
            f"{prefix} has no yardstick to measure by: `bonesoup register` adopts the first, and `bonesoup yardstick "
            "--adopt` another"
        )
    uri = f"models:/{reference(version)}"
    yardstick = read(Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(work / FOLDER))))
    if yardstick.digest != version.tags[DIGEST]:
        raise ValueError(f"{uri} has digest {yardstick.digest}, its tag says {version.tags[DIGEST]}: it was changed")
    return yardstick


def describe(store: Store, prefix: str, work: Path) -> dict[str, Any]:
    """Return the adopted yardstick as plain data, with the time and reason of its adoption."""
    yardstick = load(store, prefix, work)
    version = current(store, prefix)
    about = {key: version.tags.get(key) for key in (ADOPTED, REASON, COMMIT)}
    size = {"digest": yardstick.digest, "prompts": len(yardstick.prompts)}
    return {"version": reference(version)} | about | size | yardstick.facts()


def now() -> str:
    """Return the time in UTC, to the microsecond, in a form valid in file names and tags."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%S.%fZ")


def adopt_pipeline(store: Store, prefix: str, root: Path, settings_text: str, reason: str) -> str:
    """Adopt the yardstick of the pipeline in `root`; return a sentence that says what happened.

    Raises:
        ValueError: the pipeline has no yardstick yet.
    """
    yardstick = of_pipeline(root, YAML(typ="safe").load(settings_text))
    if yardstick is None:
        raise ValueError(
            "out/ holds no yardstick: prompts, rewards and normaliser are needed; `bonesoup run` makes them"
        )
    version, changed = adopt(store, prefix, root, yardstick, reason, lineage.code(root))
    return f"{reference(version)} is current {'now' if changed else 'already'} ({yardstick.digest})"


def adopt(
    store: Store, prefix: str, root: Path, yardstick: Yardstick, reason: str, code: Code
) -> tuple[ModelVersion, bool]:
    """Make `yardstick` the current one and record why; return its version and True if that is a change.

    A yardstick that the store already has (by digest) gets the alias again instead of a second version.

    Args:
        root: the project whose files `yardstick` names.
    """
    model, client = model_name(prefix), store.client
    before = current(store, prefix)
    if before and before.tags[DIGEST] == yardstick.digest:
        return before, False
    version = next((v for v in versions(client, model) if v.tags.get(DIGEST) == yardstick.digest), None)
    version = version or _publish(store, model, root, yardstick, code)
    record = {
        "time": now(),
        "reason": reason,
        "version": int(version.version),
        "digest": yardstick.digest,
        "replaces": int(before.version) if before else None,
        "git_commit": code.commit,
        "git_dirty": code.dirty,
    }
    client.log_dict(version.run_id, record, f"adoptions/{record['time']}.json")
    for key, value in ((REASON, reason), (ADOPTED, record["time"]), (COMMIT, code.commit)):
        client.set_model_version_tag(model, version.version, key, value)
    client.set_registered_model_alias(model, CURRENT, version.version)
    return client.get_model_version(model, version.version), True


def _publish(store: Store, model: str, root: Path, yardstick: Yardstick, code: Code) -> ModelVersion:
    """Create a version with the yardstick's files, complete or not at all."""
    client, digest = store.client, yardstick.digest
    # The fingerprint lets an interrupted call continue in the run it began.
    run = runs.opened(store, f"yardstick {digest[:8]}", digest, runs.tags("yardstick", digest, code))
    with work_folder(root) as work:
        write(yardstick, root, work / FOLDER)
        client.log_artifacts(run.info.run_id, str(work / FOLDER), FOLDER)
    client.set_terminated(run.info.run_id, "FINISHED")
    ensure_model(client, model, "yardstick")
    tags = {DIGEST: digest, "kind": "yardstick", "objectives": ",".join(yardstick.objectives)}
    tags |= {"prompts": str(len(yardstick.prompts)), "gold": str(yardstick.words is not None).lower()}
    return client.create_model_version(model, f"runs:/{run.info.run_id}/{FOLDER}", run.info.run_id, tags=tags)
