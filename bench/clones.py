"""A clone of HEAD in which a benchmark runs stages with settings of its own."""

import subprocess
import sys
from pathlib import Path

from bonesoup.settings import profiles
from bonesoup.workspace.repro import environment


def make_clone(folder: Path, profile: str, changes: dict) -> Path:
    """Clone HEAD to a folder beside those of other commits, unless it is there, and give it `profile` with `changes`.

    Returns:
        The clone: absolute, and named after `folder` and the commit.
    """
    head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
    clone = folder.with_name(f"{folder.name}-{head.stdout.strip()}").absolute()
    if not clone.is_dir():
        subprocess.run(["git", "clone", "--quiet", ".", str(clone)], check=True)
    configure(clone, profile, changes)
    return clone


def configure(clone: Path, profile: str, changes: dict) -> None:
    """Write params.yaml: `profile` with `changes`."""
    with open(clone / "params.yaml", "w") as out:
        profiles.yaml.dump(profiles.compose(profile, None, changes), out)


def repro(clone: Path, stage: str) -> None:
    """Run a stage of the clone and what it depends on; its output goes to standard error."""
    variables = environment() | {"PYTHONPATH": str(clone / "src")}
    command = [sys.executable, "-m", "dvc", "repro", "--quiet", stage]
    subprocess.run(command, cwd=clone, env=variables, check=True, stdout=sys.stderr)
