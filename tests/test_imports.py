"""The closure of a module's imports, and the digest that changes with its behaviour alone."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bonesoup import imports

ROOT = Path(__file__).parents[1]


def names(module: str) -> set[str]:
    return {str(path.relative_to(imports.PACKAGE)) for path in imports.closure(module)}


def test_imports_inside_functions_and_through_modules_count():
    assert {"training/trainer.py", "rewards/score.py", "stages/policy.py"} <= names("bonesoup.stages.policy")
    assert "training/rloo.py" not in names("bonesoup.stages.front")


def test_settings_do_not_count():
    assert not any(name.startswith("settings/") for name in names("bonesoup.stages.policy"))


def test_packages_import_nothing_of_ours():
    """Their `__init__.py` are left out of a closure."""
    for path in imports.PACKAGE.rglob("__init__.py"):
        assert not re.search(r"^\s*(from|import)\s+(bonesoup|\.)", path.read_text(), re.MULTILINE), path


def test_every_import_is_absolute():
    for path in imports.PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            assert not (isinstance(node, ast.ImportFrom) and node.level), path


@pytest.fixture
def copy(tmp_path) -> Path:
    """Copy the package, to change it."""
    shutil.copytree(imports.PACKAGE, tmp_path / "bonesoup", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def digest(copy: Path, module: str) -> str:
    code = f"from bonesoup.imports import code_digest; print(code_digest({module!r}))"
    environment = {"PYTHONPATH": str(copy)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.parametrize(
    ("trains", "changed"),
    [
        ("bonesoup.training.from_soup", "weights/fold.py"),
        ("bonesoup.training.from_soup", "generation/sample.py"),
        ("bonesoup.training.rows", "training/rloo.py"),
        ("bonesoup.stages.ric", "training/ric.py"),
    ],
)
def test_a_fix_anywhere_below_changes_the_digest_and_better_prose_does_not(copy, trains, changed):
    """The short run of a diagnosis once took its old adapter after a fix in fold.py."""
    before = digest(copy, trains)
    file = copy / "bonesoup" / changed
    file.write_text('"""Other words."""\n\n# A comment.\n' + file.read_text().split('"""', 2)[2])
    assert digest(copy, trains) == before
    file.write_text(file.read_text() + "\n\nCHANGED = True\n")
    assert digest(copy, trains) != before


def test_a_change_elsewhere_does_not_count(copy):
    before = digest(copy, "bonesoup.training.rows")
    with open(copy / "bonesoup/evaluation/report.py", "a") as file:
        file.write("\n\nCHANGED = True\n")
    assert digest(copy, "bonesoup.training.rows") == before
