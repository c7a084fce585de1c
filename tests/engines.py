"""Other people's engines, each in an environment of its own that is made once, in var/engines of the project."""

import subprocess
import sys
import time
import venv
from pathlib import Path

import httpx
import pytest

ENGINES = Path(__file__).parents[1] / "var/engines"


def python_with(*requirements: str, without: tuple[str, ...] = ()) -> Path:
    """Return the Python of an environment that has the requirements; skip the test where they cannot be installed.

    Args:
        without: packages that the requirements bring and that are removed again.
    """
    folder = ENGINES / "-".join(requirements).replace("==", "-")
    python = folder / "bin/python"
    done = folder / "installed"
    if not done.is_file():
        venv.create(folder, with_pip=True, clear=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--only-binary", ":all:", *requirements]
        ended = subprocess.run(pip, capture_output=True, text=True)
        if ended.returncode:
            pytest.skip(f"pip cannot install {', '.join(requirements)} here: {ended.stderr.strip().splitlines()[-1]}")
        if without:
            subprocess.run([str(python), "-m", "pip", "uninstall", "--quiet", "--yes", *without], check=True)
        done.touch()
    return python


def started(command: list, ready: str) -> tuple[subprocess.Popen, str]:
    """Start a server and wait for the line that begins with `ready`; return the process and that line."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=sys.stderr, text=True)
    for line in process.stdout:
        if line.startswith(ready):
            return process, line.strip()
    raise RuntimeError(f"{command[0]} ended before it was ready")


def until_healthy(process: subprocess.Popen, url: str, log: Path, seconds: float = 900) -> None:
    """Wait until a server answers at its health check; raise with the end of its log if it does not."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            httpx.get(url, timeout=5).raise_for_status()
        except httpx.HTTPError:
            time.sleep(0.5)
        else:
            return
    ended = "ended before it was ready" if process.poll() is not None else f"was not ready within {seconds:g} s"
    raise RuntimeError(f"{process.args[0]} {ended}:\n{log.read_text()[-4000:]}")
