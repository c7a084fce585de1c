"""Objects of the DVC cache: check their content against their names, and fetch them from the remote.

The name of an object is the MD5 of its content. A folder is an object too, named MD5.dir: a JSON list of its files.
"""

import json
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bonesoup.files import md5
from bonesoup.workspace.checkout import share_storage
from bonesoup.workspace.repro import dvc

FOLDER = ".dir"


@dataclass(frozen=True)
class Objects:
    """Status of the requested cache objects, including files inside directory objects.

    Attributes:
        corrupted: name -> MD5 of the present content.
    """

    sound: frozenset[str]
    corrupted: dict[str, str]
    missing: frozenset[str]


def cache(root: Path) -> Path:
    """Return the folder that holds the objects of a project."""
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        return Path(repo.cache.local.path)


def object_path(cache: Path, name: str) -> Path:
    """Return where the cache keeps an object."""
    return cache / name[:2] / name[2:]


def files(cache: Path, name: str) -> dict[str, str]:
    """Return {relative path: name} for every file of a folder object."""
    return {entry["relpath"]: entry["md5"] for entry in json.loads(object_path(cache, name).read_bytes())}


def examine(cache: Path, names: Iterable[str]) -> Objects:
    """Read every object, and the files in every intact folder, and compare content with names."""
    sound, corrupted, missing = set(), {}, set()
    todo = sorted(set(names))
    while todo:
        name = todo.pop()
        if name in sound or name in corrupted or name in missing:
            continue
        path = object_path(cache, name)
        if not path.is_file():
            missing.add(name)
        elif (content := md5(path)) != name.removesuffix(FOLDER):
            corrupted[name] = content
        else:
            sound.add(name)
            if name.endswith(FOLDER):
                todo += files(cache, name).values()
    return Objects(frozenset(sound), corrupted, frozenset(missing))


@contextmanager
def stand_in(root: Path, names: Iterable[str]) -> Iterator[Path]:
    """Yield a DVC project that needs these objects and nothing else, with the cache and the remotes of `root`.

    DVC fetches and keeps objects that a project names, so this project names those that no file in `root` does.
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
    """Fetch objects, and the files of folder objects, from the remote into the cache; skip those it lacks.

    Returns:
        The reason why nothing could be fetched; None if the remote answered.
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
