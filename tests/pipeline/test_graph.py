"""dvc.yaml against the code: every stage depends on exactly the modules it imports and the settings it reads."""

import ast
import inspect
import re
from pathlib import Path

import pytest
from dvc.repo import Repo
from pinned import default, made_up
from ruamel.yaml import YAML

from bonesoup import paths
from bonesoup.imports import closure
from bonesoup.settings import params, profiles, schema
from bonesoup.workspace import graph

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src"
GRAPH = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
STAGES = sorted(path.stem for path in (SRC / "bonesoup/stages").glob("[a-z]*.py"))
PROFILES = sorted(path.stem for path in (ROOT / "profiles").glob("*.yaml"))


def spec(stage: str) -> dict:
    return GRAPH[stage].get("do", GRAPH[stage])


def made_by(stage: str) -> list[str]:
    """List outs and metrics of a stage; one with options is a mapping of its path to them."""
    listed = [*spec(stage).get("outs", []), *spec(stage).get("metrics", [])]
    return [path for out in listed for path in ([out] if isinstance(out, str) else out)]


def test_every_stage_module_is_a_stage():
    assert sorted(GRAPH) == STAGES


def test_the_code_dependencies_are_current():
    text = (ROOT / "dvc.yaml").read_text()
    assert graph.with_code(text) == text, "run `make graph`"
    assert text.count("# Code: written") == len(STAGES)


def test_a_new_import_becomes_a_dependency():
    text = "stages:\n  seek:\n    deps:\n      - a\n      # Code: written by `make graph`\n      - src/gone.py\n"
    written = graph.with_code(text)
    assert "src/gone.py" not in written
    assert "      - src/bonesoup/method/front.py\n" in written


def test_inits_are_empty_enough_to_be_no_dependency():
    """Packages' __init__.py are left out of deps, so they must not import from the package."""
    for path in (SRC / "bonesoup").rglob("__init__.py"):
        assert not re.search(r"^\s*(from|import)\s+(bonesoup|\.)", path.read_text(), re.MULTILINE), path


@pytest.mark.parametrize("stage", STAGES)
def test_every_file_of_the_repository_among_the_deps_exists(stage):
    for dep in spec(stage)["deps"]:
        if "${" not in dep and not dep.startswith("out/"):
            assert (ROOT / dep).exists(), dep


def _fields(section: str, keys: list[str]) -> list[list[str]]:
    """List the keys a chain reads: a method of a section stands for the fields that it reads itself."""
    kind = schema.Settings.model_fields[section].annotation
    method = getattr(kind, keys[0], None) if len(keys) == 1 else None
    if not inspect.isfunction(method):
        return [keys]
    return [[field] for field in re.findall(r"self\.(\w+)", inspect.getsource(method)) if field in kind.model_fields]


def settings_read(stage: str) -> set[str]:
    """List the dotted settings a stage reads, in its module and in those that it passes its settings to."""
    chains = set()
    sources = [path.read_text() for path in closure(f"bonesoup.stages.{stage}")]
    trees = [ast.parse(source) for source in sources if re.search(r"settings: (config\.)?Settings\b", source)]
    for node in (node for tree in trees for node in ast.walk(tree)):
        names, inner = [], node
        while isinstance(inner, ast.Attribute):
            names.insert(0, inner.attr)
            inner = inner.value
        # A copy of the settings is read where it is used.
        if names and names[0] != "model_copy" and isinstance(inner, ast.Name) and inner.id == "settings":
            chains.add(".".join(names))
    # Keep the longest: settings.rl.steps also shows up as settings.rl.
    longest = {c for c in chains if not any(other.startswith(f"{c}.") for other in chains)}
    known = {field.alias or name: name for name, field in schema.Settings.model_fields.items()}
    names = {name: alias for alias, name in known.items()}
    read = set()
    for chain in longest:
        first, *rest = chain.split(".")
        assert first in names, f"{stage} reads settings.{chain}, which is no setting"
        # Methods of a value are not keys of the file.
        keys = [part for part in rest if part not in {"items", "keys", "values", "get", "model_dump"}]
        read |= {".".join([names[first], *path]) for path in _fields(first, keys)}
    return read


@pytest.mark.parametrize("stage", [s for s in STAGES if "params.yaml" not in spec(s)["deps"]])
def test_a_stage_declares_the_settings_it_reads(stage):
    declared = [param.replace(".${key}", "") for param in spec(stage).get("params", [])]
    for setting in settings_read(stage):
        assert any(setting == param or setting.startswith(f"{param}.") for param in declared), (
            f"{stage} reads settings.{setting}; its params are {declared}"
        )


@pytest.mark.parametrize("stage", [s for s in STAGES if "params.yaml" not in spec(s)["deps"]])
def test_a_stage_declares_no_setting_that_does_not_exist(stage):
    settings = profiles.compose("embedded")
    for param in spec(stage).get("params", []):
        section = settings
        for key in param.replace(".${key}", "").split("."):
            assert key in section, f"{stage}: {param}"
            section = section[key]


def test_the_walk_over_settings_sees_what_it_should():
    assert {"rl", "generation", "seed"} <= settings_read("policy")
    assert "evaluation.samples" in settings_read("front")
    assert "gates.data" in settings_read("gate")


def test_paths_in_the_graph_are_those_of_paths_py():
    known = {str(v) for k, v in vars(paths).items() if k.isupper()}
    for stage in STAGES:
        outs = made_by(stage)
        for path in [*outs, *(dep for dep in spec(stage)["deps"] if dep.startswith("out/"))]:
            fixed = path.split("/${")[0]
            assert fixed in known or str(Path(fixed).parent) in known, f"{stage}: {path} is not made from paths.py"


def test_every_dependency_under_out_is_made_by_a_stage():
    made = [out.split("/${")[0] for s in STAGES for out in made_by(s)]
    for stage in STAGES:
        for dep in spec(stage)["deps"]:
            if dep.startswith("out/"):
                fixed = dep.split("/${")[0]
                assert any(fixed.startswith(out) or out.startswith(fixed) for out in made), f"{stage}: {dep}"


def foreach_keys(stage: str, settings: dict) -> list[str]:
    groups = GRAPH[stage]["foreach"]
    if isinstance(groups, str):
        path, groups = groups.strip("${}").split("."), settings
        for key in path:
            groups = groups[key]
    return [str(key) for key in groups]


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_gives_valid_settings_and_groups(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    document = profiles.compose(name, changes=made_up(name))
    settings = params.check(profiles.plain(document), name)
    assert foreach_keys("reward", document) == settings.objectives
    assert foreach_keys("policy", document) == list(settings.policies)
    assert foreach_keys("front", document) == settings.methods
    assert set(foreach_keys("gate", document)) == set(type(settings.gates).model_fields)


@pytest.mark.parametrize("name", PROFILES)
def test_dvc_parses_the_graph_of_every_profile(name, tmp_path, monkeypatch):
    """DVC itself expands the groups, so that a profile never fails before its first stage."""
    monkeypatch.chdir(ROOT)
    (tmp_path / "dvc.yaml").write_bytes((ROOT / "dvc.yaml").read_bytes())
    profiles.write(name, changes=made_up(name), path=tmp_path / "params.yaml")
    document = profiles.compose(name, changes=made_up(name))
    expected = {
        label
        for stage, body in GRAPH.items()
        for label in ([f"{stage}@{key}" for key in foreach_keys(stage, document)] if "foreach" in body else [stage])
    }
    monkeypatch.chdir(tmp_path)
    with Repo.init(no_scm=True) as repo:
        assert {stage.addressing for stage in repo.index.stages} == expected


def test_params_yaml_is_the_embedded_profile():
    read = YAML(typ="safe").load
    assert read(ROOT / "params.yaml") == default()


def test_the_plots_name_no_objective():
    """`dvc plots show` draws any profile: its columns stay, its template is in the repository."""
    document = YAML(typ="safe").load(ROOT / "dvc.yaml")
    objectives = {name for profile in PROFILES for name in profiles.draft(profile).objectives}
    for plot in document["plots"]:
        ((_, settings),) = plot.items()
        assert not objectives & {settings["x"], *settings["y"].values()}
        assert (ROOT / f".dvc/plots/{settings['template']}.json").is_file()
