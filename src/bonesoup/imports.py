"""Follow the imports of this package: the files a module depends on, and a digest of what they do.

dvc.yaml's code dependencies (`make graph`) and the fingerprints of scratch folders both come from here, so that no list
of modules is kept by hand.
"""

import ast
import hashlib
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent
# Results do not depend on these: settings reach DVC as params, paths.py repeats the names in dvc.yaml, callbacks.py and
# progress.py print, and this module decides what runs, not what comes out.
UNSEEN = {
    "bonesoup.callbacks",
    "bonesoup.imports",
    "bonesoup.paths",
    "bonesoup.progress",
    "bonesoup.settings.params",
    "bonesoup.settings.schema",
}


def closure(module: str) -> list[Path]:
    """Return every file of this package that importing `module` brings in, imports inside functions included.

    A package's `__init__.py` is left out, since none imports from this package (a test holds them to that).
    """
    waiting, seen = {module}, set()
    while waiting:
        seen.add(current := waiting.pop())
        waiting |= _imported(_file(current)) - seen - UNSEEN
    return sorted(path for name in seen if (path := _file(name)).name != "__init__.py")


def code_digest(module: str) -> str:
    """Digest the behaviour of `module` and of everything it imports: code without docstrings, comments and layout."""
    hashed = hashlib.sha256()
    for path in closure(module):
        hashed.update(f"{path.relative_to(PACKAGE)}\n{_behaviour(path.read_text())}\n".encode())
    return hashed.hexdigest()


def _file(name: str) -> Path | None:
    """Find the file of a module of this package; None for any other name."""
    top, _, inside = name.partition(".")
    stem = PACKAGE.joinpath(*inside.split(".")) if inside else PACKAGE
    candidates = (stem / "__init__.py", stem.with_suffix(".py")) if top == "bonesoup" else ()
    return next((path for path in candidates if path.is_file()), None)


@cache
def _imported(path: Path) -> frozenset[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(name for name in names if name and _file(name))


def _behaviour(source: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(
            node, clean=False
        ):
            node.body = node.body[1:]
    return ast.dump(tree)
