"""Where a training keeps its state: a folder named after all that decides its result."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from bonesoup.files import file_digest
from bonesoup.locks import exclusive
from bonesoup.paths import SCRATCH


def programs(modules: Sequence[str]) -> list[list[str]]:
    """Versions of the libraries that train, and digests of imported modules of this package: part of a fingerprint."""
    libraries = [version(package) for package in ("torch", "transformers", "trl", "peft", "accelerate")]
    return [libraries, [file_digest(sys.modules[name].__file__) for name in modules]]


@contextmanager
def scratch(fingerprint: str) -> Iterator[Path]:
    """The folder, made if absent, for one process at a time: a second one waits, and takes what the first has made."""
    folder = SCRATCH / "policies" / fingerprint
    with exclusive(folder.with_suffix(".lock"), wait=float("inf")):
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
