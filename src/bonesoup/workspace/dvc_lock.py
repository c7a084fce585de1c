"""Read and write a dvc.lock: what every stage was run with, and what it made."""

from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml import YAML

from bonesoup.files import appearing
from bonesoup.paths import REGISTERED

LOCK = "dvc.lock"


@dataclass(frozen=True)
class Out:
    """A result in the DVC cache: the stage that made it, its path, and the name of its object."""

    stage: str
    path: str
    name: str


def stages(lock: Path) -> dict[str, dict]:
    """Return the record of every stage; empty if there is no such file."""
    return (YAML(typ="safe").load(lock) or {}).get("stages") or {} if lock.is_file() else {}


def outs(lock: Path) -> list[Out]:
    """List the results that a lock names and the cache holds."""
    return [
        Out(stage, out["path"], out["md5"])
        for stage, record in stages(lock).items()
        for out in record.get("outs", [])
        # dvc.yaml keeps this out of the cache.
        if "md5" in out and out["path"] != REGISTERED.as_posix()
    ]


def named(lock: Path) -> set[str]:
    """Return all objects that a lock names: results, and inputs that DVC tracks."""
    return {
        item["md5"]
        for record in stages(lock).values()
        for kind in ("deps", "outs")
        for item in record.get(kind, [])
        if "md5" in item
    }


def take(lock: Path, stage: str, record: dict) -> None:
    """Write another machine's record of a stage into a lock; no dvc command may be running there."""
    records = {"schema": "2.0", "stages": stages(lock) | {stage: record}}
    with appearing(lock) as temporary, open(temporary, "w") as out:
        YAML(typ="safe").dump(records, out)
