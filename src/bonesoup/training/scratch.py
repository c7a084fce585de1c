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


def state_folder(scratch: Path, until: int | None, newest: int) -> Path:
    """Choose where the state of a policy lies: steps that the full run has left behind are trained again in a folder
    within.

    Args:
        until: the step to end after; None for the full run.
        newest: step of the newest checkpoint in `scratch`.
    """
    past = until and ((scratch / "adapter").is_dir() or newest > until)
    return scratch / "short" if past and not adapter_folder(scratch, until).is_dir() else scratch


def adapter_folder(scratch: Path, until: int | None) -> Path:
    """Name the folder in `scratch` of the adapter at the step `until`, or of the full run's."""
    return scratch / (f"adapter-{until}" if until else "adapter")


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
