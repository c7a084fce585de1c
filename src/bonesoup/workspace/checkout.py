"""Make and update checkouts: clones of the project under var/checkouts/ for flows to run in, apart from the workspace.

A checkout has its own params.yaml, dvc.lock, out/ and scratch/, kept between runs: only changed stages run, and an
interrupted policy resumes. It shares the DVC cache and the remotes of its source.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from bonesoup.files import appearing
from bonesoup.locks import exclusive
from bonesoup.workspace.declared import check_settings
from bonesoup.workspace.dvc_lock import LOCK
from bonesoup.workspace.repro import environment

CHECKOUTS = Path("var/checkouts")


def folder(source: Path, name: str) -> Path:
    """Return the folder of the checkout with this name.

    Raises:
        ValueError: a name that could leave the folder of checkouts.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name):
        raise ValueError(f"checkout name {name!r}: use lower-case letters, digits, - and _")
    return source.absolute() / CHECKOUTS / name


@contextmanager
def held(source: Path, name: str, wait: float) -> Iterator[Path]:
    """Lock a checkout for one run and yield its folder, which may not exist yet.

    Raises:
        TimeoutError: another run held it for `wait` seconds.
    """
    checkout = folder(source, name)
    with exclusive(checkout.with_suffix(".lock"), wait):
        yield checkout


def prepare(
    source: Path,
    checkout: Path,
    commit: str,
    profile: str | None = None,
    overrides: dict[str, Any] | None = None,
) -> str:
    """Bring a checkout to a commit of its source, with the settings of this run; return the commit's full hash.

    Args:
        source: the repository.
        checkout: its folder, made if it does not exist.
        commit: anything git resolves in `source`.
        profile: written into params.yaml; None keeps the commit's params.yaml.
        overrides: dotted key -> value, set in params.yaml on top.

    Raises:
        ValueError: no such commit, profile or key, a value that is not allowed, or settings that stages read and
            params.yaml lacks.
    """
    sha = resolve(source, commit)
    if not checkout.is_dir():
        with appearing(checkout) as temporary:
            # Shared objects: every commit of the source is there, now and later, without a fetch.
            git(source, "clone", "--quiet", "--shared", "--no-checkout", str(source.absolute()), str(temporary))
    # Every time: the source may have moved, or be mounted elsewhere in a container.
    objects = source / git(source, "rev-parse", "--git-path", "objects")
    (checkout / ".git/objects/info/alternates").write_text(f"{objects.absolute()}\n")
    git(checkout, "remote", "set-url", "origin", str(source.absolute()))
    # The lock describes this checkout's out/, so it stays even if the commit has a different one.
    lock = (checkout / LOCK).read_bytes() if (checkout / LOCK).is_file() else None
    # Left by a killed run: the caller's lock keeps others out.
    (checkout / ".git/index.lock").unlink(missing_ok=True)
    git(checkout, "checkout", "--quiet", "--force", "--detach", sha)
    if lock is not None:
        (checkout / LOCK).write_bytes(lock)
    share_storage(source, checkout)
    if profile or overrides:
        change_settings(checkout, profile, overrides or {})
    if borrowed := borrowed_paths(source, checkout):
        change_settings(checkout, None, borrowed)
    check_settings(checkout)
    return sha


def resolve(source: Path, commit: str) -> str:
    """Return the full hash of a commit.

    Raises:
        ValueError: `source` has no such commit.
    """
    try:
        return git(source, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{commit}^{{commit}}")
    except RuntimeError:
        raise ValueError(f"{source} has no commit {commit!r}: fetch it first, or name another") from None


def share_storage(source: Path, checkout: Path) -> None:
    """Give a clone the DVC cache and remotes of its source, with absolute paths."""
    from dvc.repo import Repo

    with Repo(str(source)) as repo:
        cache, remotes, default = repo.cache.local_cache_dir, repo.config["remote"], repo.config["core"].get("remote")
    # The file may hold keys to the remotes.
    (checkout / ".dvc/config.local").touch(mode=0o600)
    (checkout / ".dvc/config.local").chmod(0o600)
    with Repo(str(checkout)) as repo, repo.config.edit("local") as config:
        config["cache"]["dir"] = cache
        config["remote"] = {name: dict(options) for name, options in remotes.items()}
        if default:
            config["core"]["remote"] = default


def change_settings(checkout: Path, profile: str | None, overrides: dict[str, Any]) -> None:
    """Write a profile and single settings into a checkout's params.yaml, with the checkout's code."""
    command = [sys.executable, "-m", "bonesoup.cli", "profile", *([profile] if profile else [])]
    for key, value in overrides.items():
        command += ["--set", f"{key}={json.dumps(value)}"]
    done = subprocess.run(command, cwd=checkout, env=variables(checkout), capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(done.stderr.strip().removeprefix("bonesoup: "))


def borrowed_paths(source: Path, checkout: Path) -> dict[str, str]:
    """Return absolute paths for settings that name a file which only the source has, such as ../data/pairs.jsonl.

    A file that DVC tracks is left out: the checkout gets the version that its commit names.
    """
    settings = YAML(typ="safe").load(checkout / "params.yaml")
    named = {"data.path": settings["data"]["path"], "model.source": settings["model"]["source"]}
    for objective, reward in settings["rewards"].items():
        named |= {f"rewards.{objective}.{key}": reward[key] for key in ("source", "model") if key in reward}
    return {
        key: str((source / path).resolve())
        for key, path in named.items()
        # `scratch` asks for a new model, but is also the name of a folder.
        if path != "scratch"
        and not path.startswith("out/")
        and not (checkout / path).exists()
        and not (checkout / f"{path}.dvc").exists()
        and (source / path).exists()
    }


def variables(checkout: Path) -> dict[str, str]:
    """Return the environment of a command in a checkout: it runs the checkout's code, not the installed package."""
    return environment() | {"PYTHONPATH": str(checkout / "src")}


def git(repository: Path, *arguments: str) -> str:
    """Run a git command and return its standard output.

    Raises:
        RuntimeError: it failed; what git said.
    """
    done = subprocess.run(["git", *arguments], cwd=repository, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"git {arguments[0]} failed in {repository}: {done.stderr.strip()}")
    return done.stdout.strip()
