"""Give a training a folder for its state, named after everything that determines its result."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from bonesoup.imports import code_digest
from bonesoup.locks import exclusive
from bonesoup.paths import SCRATCH


def programs(module: str) -> list:
    """Identify the code behind a result: training libraries, and `module` with all it imports."""
    libraries = [version(package) for package in ("torch", "transformers", "trl", "peft", "accelerate")]
    return [libraries, code_digest(module)]


@contextmanager
def scratch(fingerprint: str, wait: bool = True) -> Iterator[Path]:
    """Lock the folder of a fingerprint, made if absent; a second process waits for the first.

    Raises:
        TimeoutError: another process holds it, and `wait` is off.
    """
    folder = SCRATCH / "policies" / fingerprint
    with exclusive(folder.with_suffix(".lock"), wait=float("inf") if wait else -1):
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
