"""Objects of the DVC cache: which a dvc.lock names, whether each is what its name says, a fetch from the remote.

An object's name is the MD5 of its content. A folder is an object too, named MD5.dir: a JSON list of files.
"""

import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml import YAML

from bonesoup.paths import REGISTERED
from bonesoup.workspace.checkout import share_storage
from bonesoup.workspace.repro import environment

FOLDER = ".dir"


@dataclass(frozen=True)
class Out:
    stage: str
    path: str
    name: str


@dataclass(frozen=True)
class Objects:
    """What became of the objects asked for and of the files of the folders among them.

    Attributes:
        corrupted: name -> MD5 of the content that is there.
    """

    sound: frozenset[str]
    corrupted: dict[str, str]
    missing: frozenset[str]


def outs(lock: str) -> list[Out]:
    """The results that the text of a dvc.lock names and the cache holds."""
    return [
        Out(stage, out["path"], out["md5"])
        for stage, facts in _stages(lock).items()
        for out in facts.get("outs", [])
        # dvc.yaml keeps this one out of the cache.
        if "md5" in out and out["path"] != REGISTERED.as_posix()
    ]


def named(lock: str) -> set[str]:
    """All objects that the text of a dvc.lock names: results, and inputs that DVC may track."""
    return {
        item["md5"]
        for facts in _stages(lock).values()
        for kind in ("deps", "outs")
        for item in facts.get(kind, [])
        if "md5" in item
    }


def _stages(lock: str) -> dict:
    return (YAML(typ="safe").load(lock) or {}).get("stages") or {}


def cache(root: Path) -> Path:
    """The folder that holds the objects of a project."""
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        return Path(repo.cache.local.path)


def place(folder: Path, name: str) -> Path:
    return folder / name[:2] / name[2:]


def files(folder: Path, name: str) -> dict[str, str]:
    """Relative path -> name of every file of a folder object."""
    return {entry["relpath"]: entry["md5"] for entry in json.loads(place(folder, name).read_bytes())}


def examine(folder: Path, names: Iterable[str]) -> Objects:
    """Read every object, and the files of every folder that is sound."""
    sound, corrupted, missing = set(), {}, set()
    todo = sorted(set(names))
    while todo:
        name = todo.pop()
        if name in sound or name in corrupted or name in missing:
            continue
        path = place(folder, name)
        if not path.is_file():
            missing.add(name)
        elif (found := md5(path)) != name.removesuffix(FOLDER):
            corrupted[name] = found
        else:
            sound.add(name)
            if name.endswith(FOLDER):
                todo += files(folder, name).values()
    return Objects(frozenset(sound), corrupted, frozenset(missing))


def md5(path: Path) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


@contextmanager
def stand_in(root: Path, names: Iterable[str]) -> Iterator[Path]:
    """A DVC project that needs these objects and nothing else, with the cache and the remotes of `root`.

    DVC fetches and keeps what projects need: this is how it is asked for objects that no file in `root` names.
    """
    with tempfile.TemporaryDirectory(prefix="bonesoup-") as temporary:
        folder = Path(temporary)
        (folder / ".dvc").mkdir()
        (folder / ".dvc/config").write_text("[core]\n    no_scm = true\n")
        share_storage(root, folder)
        listing = [{"md5": name, "hash": "md5", "path": f"object-{name}"} for name in sorted(set(names))]
        # JSON is YAML.
        (folder / "needed.dvc").write_text(json.dumps({"outs": listing}))
        yield folder


def fetch(root: Path, names: Iterable[str]) -> str | None:
    """Bring objects and the files of folders from the remote to the cache, as far as it has them.

    Returns:
        Why nothing could be fetched; None where the remote answered.
    """
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        if not repo.config["core"].get("remote"):
            return "no default DVC remote is set"
    with stand_in(root, names) as folder:
        try:
            dvc(folder, "fetch")
        except RuntimeError as error:
            return str(error)
    return None


def dvc(folder: Path, *arguments: str) -> str:
    """Standard output of a dvc command.

    Raises:
        RuntimeError: it failed; what DVC said.
    """
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        told = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")] or [done.stderr.strip()]
        raise RuntimeError(f"dvc {arguments[0]}: " + "\n".join(told).replace("ERROR: ", ""))
    return done.stdout
