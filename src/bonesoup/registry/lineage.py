"""What a version was made from: code, settings, data, environment."""

import platform
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import distributions, version
from pathlib import Path

from bonesoup.files import file_digest

# What loading and answering needs; a model's environment is these at the versions that made it.
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
        changes: status and diff against HEAD; empty when the tree is clean. dvc.lock and params.yaml do not
            count: runs and profiles rewrite them, and they are recorded whole.
    """

    commit: str
    changes: str

    @property
    def dirty(self) -> bool:
        return bool(self.changes)


def code(root: Path) -> Code:
    commit = _git(root, "rev-parse", "--verify", "HEAD")
    if commit is None:
        return Code("unknown", "no git commit: the code of this run is the copy inside the model\n")
    paths = ("--", ".", ":(exclude)dvc.lock", ":(exclude)params.yaml")
    status = _git(root, "status", "--porcelain", *paths) or ""
    diff = _git(root, "diff", "HEAD", *paths) or ""
    if len(diff) > DIFF_LIMIT:
        diff = diff[:DIFF_LIMIT] + f"\n... cut: the diff has {len(diff)} characters\n"
    return Code(commit.strip(), f"{status}\n{diff}" if status else "")


def _git(root: Path, *arguments: str) -> str | None:
    """Output of a git command, or None where there is no git or no repository."""
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, errors="replace")
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None


def requirements() -> list[str]:
    """pip requirements of a registered model: `name==version`, without local labels such as +cpu."""
    return [f"{name}=={version(name).split('+')[0]}" for name in REQUIREMENTS]


def environment() -> dict:
    """Python, platform and the version of every installed package."""
    packages = {d.metadata["Name"]: d.version for d in distributions()}
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "packages": dict(sorted(packages.items(), key=lambda item: item[0].lower())),
    }


def digests(root: Path, paths: list[Path]) -> dict[str, str]:
    """SHA-256 of each path (a file, or a folder as a whole) that exists, by its path, inside `root` relative."""
    return {
        (path.relative_to(root) if path.is_relative_to(root) else path).as_posix(): file_digest(path)
        for path in paths
        if path.exists()
    }
