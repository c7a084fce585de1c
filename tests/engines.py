"""Other people's engines, each in an environment of its own that is made once, in var/engines of the project."""

import subprocess
import sys
import venv
from pathlib import Path

import pytest

ENGINES = Path(__file__).parents[1] / "var/engines"


def python_with(*requirements: str) -> Path:
    """Return the Python of an environment that has the requirements; skip the test where they cannot be installed."""
    folder = ENGINES / "-".join(requirements).replace("==", "-")
    python = folder / "bin/python"
    done = folder / "installed"
    if not done.is_file():
        venv.create(folder, with_pip=True, clear=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--only-binary", ":all:", *requirements]
        ended = subprocess.run(pip, capture_output=True, text=True)
        if ended.returncode:
            pytest.skip(f"pip cannot install {', '.join(requirements)} here: {ended.stderr.strip().splitlines()[-1]}")
        done.touch()
    return python


def started(command: list, ready: str) -> tuple[subprocess.Popen, str]:
    """Start a server and wait for the line that begins with `ready`; return the process and that line."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=sys.stderr, text=True)
    for line in process.stdout:
        if line.startswith(ready):
            return process, line.strip()
    raise RuntimeError(f"{command[0]} ended before it was ready")
