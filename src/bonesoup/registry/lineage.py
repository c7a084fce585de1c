"""The lineage of a version: code, data and environment."""

import platform
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import distributions, version
from pathlib import Path

from bonesoup.files import file_digest
from bonesoup.paths import DATA, NORMALISER, REWARDS, SFT

# Packages needed to load a model and to answer; its environment pins them to the versions that made it.
REQUIREMENTS = (
    "accelerate",
    "jinja2",
    "mlflow",
    "numpy",
    "pandas",
    "peft",
    "pydantic",
    "ruamel.yaml",
    "safetensors",
    "tokenizers",
    "torch",
    "transformers",
)
DIFF_LIMIT = 1_000_000


@dataclass(frozen=True)
class Code:
    """The state of the git tree.

    Attributes:
        commit: hash of HEAD, or "unknown" outside git.
        changes: status and diff against HEAD; empty if the tree is clean. dvc.lock and params.yaml do not
            count: runs and profiles rewrite them, and both are recorded whole.
    """

    commit: str
    changes: str

    @property
    def dirty(self) -> bool:
        return bool(self.changes)


def code(root: Path) -> Code:
    """Read the state of the git tree in `root`."""
    commit = _git(root, "rev-parse", "--verify", "HEAD")
    if commit is None:
        return Code("unknown", "no git commit: the code of this run is the copy inside the model\n")
    paths = ("--", ".", ":(exclude)dvc.lock", ":(exclude)params.yaml")
    status, diff = _git(root, "status", "--porcelain", *paths), _git(root, "diff", "HEAD", *paths)
    if status is None or diff is None:
        return Code(commit.strip(), "git cannot tell whether anything was changed: `git status` fails here\n")
    if len(diff) > DIFF_LIMIT:
        diff = diff[:DIFF_LIMIT] + f"\n... cut: the diff has {len(diff)} characters\n"
    return Code(commit.strip(), f"{status}\n{diff}" if status else "")


def _git(root: Path, *arguments: str) -> str | None:
    """Return the output of a git command, or None if there is no git or no repository."""
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, errors="replace")
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None


def requirements() -> list[str]:
    """List the pip requirements of a registered model: `name==version`, without local labels such as +cpu."""
    return [f"{name}=={version(name).split('+')[0]}" for name in REQUIREMENTS]


def environment() -> dict:
    """Return Python, platform and the version of every installed package."""
    packages = {d.metadata["Name"]: d.version for d in distributions()}
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "packages": dict(sorted(packages.items(), key=lambda item: item[0].lower())),
    }


def digests(root: Path, settings: dict) -> dict[str, str]:
    """Return the SHA-256 of data, rewards, normaliser and SFT policy, by path; relative paths inside `root`."""
    data = [root / settings["data"]["path"], *sorted((root / DATA).rglob("*.json*"))]
    rewards = [root / REWARDS / name for name in settings["objectives"]]
    return {
        (path.relative_to(root) if path.is_relative_to(root) else path).as_posix(): file_digest(path)
        for path in [*data, *rewards, root / NORMALISER, root / SFT]
        if path.exists()
    }
