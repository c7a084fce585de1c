"""What champion and challenger are both measured by: prompts, judges, scale, grid and statistics, under one digest.

Two versions are comparable only on the same yardstick. It is a folder, so that it can be kept and used when the
pipeline that made it is gone:

    yardstick.json   everything below but the prompts
    prompts.jsonl    {"id", "prompt": chat messages}
    judges/NAME/     reward.json and, where the judge is learned, its model
    words.yaml       the word tables behind the gold score, where the task knows one
"""

import shutil
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from bonesoup.evaluation.statistics import Statistics
from bonesoup.files import digest, file_digest, read_json, read_jsonl, write_json, write_jsonl
from bonesoup.paths import NORMALISER, PROMPTS, REWARDS


@dataclass(frozen=True)
class Yardstick:
    """A yardstick in memory, and where its judges lie.

    Attributes:
        prompts: {"id", "prompt": chat messages}, in the order that pairs them.
        judges: objective -> digest of its judge.
        normaliser: {"mean", "std"} per objective, and the same for the gold score under "gold", or None there.
        words: digest of the word tables of the gold score; None where the truth is not known.
        parts: of the preference grid. Other names are those of params.yaml.
        folders, tables: where judges and word tables lie now; no part of what it is.
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
        """How results on it are estimated."""
        return Statistics(self.bootstrap, self.confidence, self.seed)

    @property
    def digest(self) -> str:
        return digest(self.facts(), self.prompts)

    def facts(self) -> dict[str, Any]:
        """All that yardstick.json holds."""
        left_out = {"prompts", "folders", "tables"}
        facts = {item.name: getattr(self, item.name) for item in fields(self) if item.name not in left_out}
        return facts | {"objectives": list(self.objectives), "references": list(self.references)}

    def on(self, prompts: list[dict], gold: bool) -> "Yardstick":
        """The same judges and scale on other prompts; `gold` says whether the true score is known for all of them."""
        if gold or self.words is None:
            return replace(self, prompts=prompts)
        return replace(self, prompts=prompts, words=None, tables=None, normaliser=self.normaliser | {"gold": None})


def of_pipeline(root: Path, settings: dict) -> Yardstick | None:
    """The yardstick that the evaluation of the run in out/ used; None while a part of it is not made yet.

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
    tables = root / settings["data"]["path"] if gold else None
    return Yardstick(
        objectives=tuple(names),
        prompts=[{"id": row["id"], "prompt": row["prompt"]} for row in rows],
        judges={name: judge_digest(*judge(root, folder)) for name, folder in folders.items()},
        normaliser=_moments(scale) | {"gold": _moments(gold) if gold else None},
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


def unlike(yardstick: Yardstick, report: dict) -> str | None:
    """In what a report (out/metrics/report.json) was measured otherwise; None where it is of this yardstick.

    Settings may have changed since it was written; its numbers are then no scores on the present yardstick.
    """
    present = yardstick.facts() | {"prompts": len(yardstick.prompts)}
    for name in ("objectives", "references", "interior", "confidence", "bootstrap", "prompts"):
        if report[name] != present[name]:
            return f"{name} was {report[name]} and is {present[name]}"
    return None


def _moments(scale: dict) -> dict:
    return {"mean": scale["mean"], "std": scale["std"]}


def judge(root: Path, folder: Path) -> tuple[dict, Path | None]:
    """(reward.json, folder of the model) of a reward; a model that the pipeline names by a local path is meant too."""
    spec = read_json(folder / "reward.json") | {"model": None}
    named = read_json(folder / "reward.json").get("model")
    if named and (root / named).is_dir():
        return spec, root / named
    model = folder / "model"
    # What is left is a Hub id, pinned by its revision, or a function, known by the digest of its source.
    return spec | {"model": named}, model if model.is_dir() else None


def judge_digest(spec: dict, model: Path | None) -> str:
    return digest(spec, file_digest(model) if model else None)


def write(yardstick: Yardstick, root: Path, out: Path) -> None:
    """Write the folder `out`, with copies of judges and tables: they stay what they are when the pipeline moves on."""
    out.mkdir(parents=True)
    write_json(out / "yardstick.json", yardstick.facts())
    write_jsonl(out / "prompts.jsonl", yardstick.prompts)
    for name, folder in yardstick.folders.items():
        spec, model = judge(root, folder)
        write_json(out / "judges" / name / "reward.json", spec)
        if model:
            shutil.copytree(model, out / "judges" / name / "model")
    if yardstick.tables:
        shutil.copyfile(yardstick.tables, out / "words.yaml")


def read(folder: Path) -> Yardstick:
    """Read a folder that `write` made.

    Raises:
        ValueError: a judge or the tables are not what the yardstick was made with.
    """
    facts = read_json(folder / "yardstick.json")
    known = {item.name for item in fields(Yardstick)} - {"prompts", "folders", "tables"}
    if set(facts) != known:
        raise ValueError(f"{folder / 'yardstick.json'} has {sorted(facts)}, expected {sorted(known)}")
    folders = {name: folder / "judges" / name for name in facts["objectives"]}
    for name, own in folders.items():
        found = judge_digest(*judge(folder, own))
        if found != facts["judges"][name]:
            raise ValueError(
                f"the yardstick's judge {name} has digest {found}, recorded is {facts['judges'][name]}: its files were "
                "changed in the store; adopt a yardstick anew with `bonesoup yardstick --adopt`"
            )
    tables = folder / "words.yaml" if facts["words"] else None
    if tables and (found := file_digest(tables)) != facts["words"]:
        raise ValueError(f"the yardstick's word tables have digest {found}, recorded is {facts['words']}")
    facts |= {"objectives": tuple(facts["objectives"]), "references": tuple(facts["references"])}
    return Yardstick(**facts, prompts=read_jsonl(folder / "prompts.jsonl"), folders=folders, tables=tables)


def shown(yardstick: Yardstick) -> dict[str, Any]:
    """What a person wants to know of it, as plain data."""
    facts = asdict(replace(yardstick, folders={}, tables=None))
    for name in ("prompts", "folders", "tables"):
        del facts[name]
    return {"digest": yardstick.digest, "prompts": len(yardstick.prompts)} | facts
