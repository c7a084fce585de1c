"""Imports go one way, `flows` stays light, and the folder mlflow/ does not hide the package."""

import ast
import graphlib
import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "bonesoup"

# A line may import from those above it.
LAYERS = [
    ["method", "callbacks", "files", "imports", "locks", "paths", "progress", "resume"],
    ["settings"],
    ["workspace"],
    ["weights"],
    ["data"],
    ["chat"],
    ["rewards"],
    ["generation"],
    ["export"],
    ["training"],
    ["evaluation"],
    ["diagnose"],
    ["registry"],
    ["promotion"],
    ["serving"],
    ["stages"],
    ["study", "upkeep"],
    ["cli"],
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}


HEAVY = {"torch", "transformers", "peft", "trl"}


def imported(path: Path, package: str, inside_functions: bool = True) -> list[tuple[int, str]]:
    """List (line, absolute name) of every import in a file."""
    tree = ast.parse(path.read_text())
    nodes = list(ast.walk(tree))
    if not inside_functions:
        functions = [n for n in nodes if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
        late = {id(inner) for function in functions for inner in ast.walk(function)}
        nodes = [node for node in nodes if id(node) not in late]
    imports = []
    for node in nodes:
        if isinstance(node, ast.Import):
            imports += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            imports += [(node.lineno, f"{base}.{alias.name}") for alias in node.names]
    return imports


def upward(path: Path, source: Path = PACKAGE) -> list[str]:
    """List imports in a file of the package that point to a higher layer, or to none."""
    inside = path.relative_to(source)
    layer = inside.with_suffix("").parts[0]
    package = ".".join((source.name, *inside.parts[:-1]))
    faults = []
    for line, name in imported(path, package):
        top, _, rest = name.partition(".")
        target = rest.split(".")[0]
        if top != source.name or not target or target.startswith("__"):
            continue
        if target not in RANK:
            faults.append(f"{inside}:{line} imports {name}, which belongs to no layer")
        elif RANK[target] > RANK.get(layer, len(LAYERS)):
            faults.append(f"{inside}:{line} ({layer}) imports {name}, a higher layer")
    return faults


def test_every_module_belongs_to_a_layer():
    names = {p.stem for p in PACKAGE.iterdir() if p.suffix == ".py" or (p.is_dir() and any(p.rglob("*.py")))}
    assert names - {"__init__", "__main__"} <= set(RANK)


def test_imports_go_one_way():
    files = sorted(PACKAGE.rglob("*.py"))
    assert len(files) > 5
    assert [fault for path in files if path.name != "__main__.py" for fault in upward(path)] == []


def test_no_modules_import_each_other_in_a_circle():
    graph = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        graph[".".join(parts)] = {name for _, name in imported(path, ".".join(parts[:-1]))}
    inside = {
        module: {known for name in names for known in (name, name.rpartition(".")[0]) if known in graph} - {module}
        for module, names in graph.items()
    }
    graphlib.TopologicalSorter(inside).prepare()


@pytest.mark.parametrize(
    ("module", "code", "faults"),
    [
        ("method/a.py", "from bonesoup.weights import adapters", 1),
        ("method/a.py", "def f():\n    import bonesoup.cli", 1),
        ("method/a.py", "from ..weights import adapters", 1),
        ("method/a.py", "from bonesoup import stages", 1),
        ("method/a.py", "from bonesoup.nowhere import x", 1),
        ("weights/a.py", "from bonesoup.method.front import spacing\nfrom . import b\nimport torch", 0),
        ("weights/a.py", "import bonesoup.settings.schema", 0),
        ("cli.py", "import bonesoup\nfrom bonesoup import __version__", 0),
    ],
)
def test_the_walk_sees_what_it_should(tmp_path, module, code, faults):
    path = tmp_path / "bonesoup" / module
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(code)
    assert len(upward(path, tmp_path / "bonesoup")) == faults


def reached(start: Path) -> dict[str, list[str]]:
    """Map each top-level package that importing a file imports in turn to the files that lead to it."""
    chains, waiting, seen = {}, [(start, [start.name])], set()
    while waiting:
        path, chain = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        inside = path.relative_to(PACKAGE).parts[:-1] if PACKAGE in path.parents else ()
        for _, name in imported(path, ".".join((PACKAGE.name, *inside)), inside_functions=False):
            parts = name.split(".")
            chains.setdefault(parts[0], chain)
            if parts[0] != PACKAGE.name:
                continue
            for end in range(1, len(parts) + 1):
                target = PACKAGE.joinpath(*parts[1:end])
                files = [target / "__init__.py", target.with_suffix(".py")]
                waiting += [(file, [*chain, str(file.relative_to(PACKAGE))]) for file in files if file.is_file()]
    return chains


@pytest.mark.parametrize("folder", [PACKAGE / "method", ROOT / "flows"], ids=["method", "flows"])
def test_importing_the_light_parts_never_reaches_torch(folder):
    for path in folder.rglob("*.py"):
        chains = reached(path)
        assert not HEAVY & set(chains), {name: chains[name] for name in HEAVY & set(chains)}


def test_the_chain_is_followed_through_the_package():
    assert "torch" in reached(PACKAGE / "generation" / "soup.py")
    assert "torch" in reached(PACKAGE / "weights" / "fold.py")


@pytest.mark.parametrize("name", ["accelerate", "mlflow"])
def test_a_folder_of_settings_does_not_shadow_the_package_of_its_name(monkeypatch, name):
    assert not list((ROOT / name).rglob("*.py"))
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(str(ROOT))
    spec = importlib.util.find_spec(name)
    assert spec.origin is not None, f"{name} is the folder of settings, not the package"
    assert ROOT / name not in Path(spec.origin).parents
