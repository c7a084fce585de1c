"""Measure what an installation takes: disk of each extra, and seconds until a command prints its help.

    PIP_CONSTRAINT=requirements.lock python bench/installed.py

Builds a wheel of the last commit, installs it into a new environment, and adds one extra after another. Prints a
Markdown table for docs/adapters.md. Takes some minutes and the network; seconds are the median of repeated whole
processes. The constraint keeps pip to the locked versions.
"""

import statistics
import subprocess
import sys
import time
import venv
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
EXTRAS = ("", "json", "train")
COMMANDS = (["--help"], ["serve", "--help"], ["soup", "--help"])
REPEATS = 5


def size(folder: Path) -> int:
    """Return the bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def seconds(command: list[str], folder: Path) -> float:
    """Return the median wall time of a command, after a run that fills the caches."""
    times = []
    for _ in range(REPEATS + 1):
        start = time.perf_counter()
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def main() -> None:
    heads = ["installed", "MB", *(f"`bonesoup {' '.join(command)}`, s" for command in COMMANDS)]
    print(f"| {' | '.join(heads)} |\n|---|{'---:|' * (len(heads) - 1)}")
    with TemporaryDirectory() as place:
        folder = Path(place)
        environment = folder / "environment"
        venv.create(environment, with_pip=True)
        programs = environment / ("Scripts" if sys.platform == "win32" else "bin")
        bare = size(environment)
        pip = [str(programs / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
        # Building leaves files behind, so it is done in a clone.
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder / "source")], check=True)
        subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", place, str(folder / "source")], check=True)
        (wheel,) = folder.glob("*.whl")
        for extra in EXTRAS:
            what = f"{wheel}[{extra}]" if extra else str(wheel)
            subprocess.run([*pip, "install", what], check=True)
            measured = [seconds([str(programs / "bonesoup"), *command], folder) for command in COMMANDS]
            name = f"and the extra `{extra}`" if extra else "the package"
            cells = [name, f"{(size(environment) - bare) / 1e6:,.0f}", *(f"{value:.2f}" for value in measured)]
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
