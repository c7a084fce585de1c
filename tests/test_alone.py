"""Merging, mixing, exporting and serving people's own models: no project, no git, and none of the extra `train`."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import architectures
import httpx
import pytest
from exported import write_model
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
IMPORTED = {"great-expectations": "great_expectations"}
# Hides packages as if they were not installed, then runs one command of bonesoup after another.
HIDING = """
import importlib.machinery, importlib.metadata, json, sys
hidden, commands = json.loads(sys.argv[1])
find = importlib.machinery.PathFinder.find_spec
importlib.machinery.PathFinder.find_spec = classmethod(
    lambda cls, name, *rest: None if name.partition(".")[0] in hidden else find(name, *rest)
)
from bonesoup.cli.main import app, explain
for command in commands:
    try:
        app(command, standalone_mode=False)
    except ModuleNotFoundError as error:
        print(explain(error), flush=True)
"""


def hidden() -> list[str]:
    """List the modules of the packages that only the extra `train` installs."""
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["train"]
    names = [re.match(r"[a-zA-Z0-9-]+", requirement)[0] for requirement in extra]
    return [IMPORTED.get(name, name) for name in names]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Make a folder with a model, another of its kind, two adapters and a soup file."""
    root = tmp_path_factory.mktemp("folder")
    write_model(root / "base", "llama")
    write_model(root / "other", "llama")
    for seed, name in enumerate(("calm", "bold")):
        architectures.policy(root / "base", root / name, seed, r=2, target_modules=["q_proj", "down_proj"])
    with open(root / "soup.yaml", "w") as out:
        YAML().dump({"base": "base", "adapters": {"calm": "calm", "bold": "bold"}}, out)
    return root


def command(commands: list[list[str]]) -> list[str]:
    return [sys.executable, "-c", HIDING, json.dumps([hidden(), commands])]


def environment(*path: Path) -> dict[str, str]:
    """Return variables of a shell without git and without this project."""
    return {"PATH": "", "PYTHONPATH": os.pathsep.join(map(str, path)), "OMP_NUM_THREADS": "1", "COLUMNS": "300"}


def commands(folder: Path) -> list[list[str]]:
    mixing = [
        "--base",
        str(folder / "base"),
        "--adapter",
        f"calm={folder / 'calm'}",
        "--adapter",
        f"bold={folder / 'bold'}",
    ]
    models = ["--model", f"{folder / 'base'}=1.5", "--model", f"{folder / 'other'}=-0.5"]
    return [
        ["merge", *models, "--out", "merged"],
        ["soup", *mixing, "--weight", "calm=1.4,bold=-0.4", "--out", "mixed"],
        ["soup", str(folder / "soup.yaml"), "--weight", "bold", "--full", "--out", "full"],
        *(["export", "--for", engine, *mixing, "--out", engine] for engine in ("peft", "vllm", "llama.cpp")),
    ]


def written(folder: Path) -> None:
    for path in ("merged/merge.json", "mixed/adapter_config.json", "full/config.json", "llama.cpp/bold.gguf"):
        assert (folder / path).is_file(), path
    assert {path.name for path in folder.iterdir()} == {"merged", "mixed", "full", "peft", "vllm", "llama.cpp"}


def test_merging_mixing_and_exporting_need_no_project_and_no_extra(folder, tmp_path):
    """Only the imports of the server are tried: it refuses a file that does not exist."""
    asked = [*commands(folder), ["serve", "nowhere.yaml"]]
    done = subprocess.run(
        command(asked), cwd=tmp_path, env=environment(ROOT / "src"), capture_output=True, text=True, timeout=300
    )
    assert "nowhere.yaml does not exist" in done.stderr, done.stdout + done.stderr
    assert "this needs the package" not in done.stdout
    written(tmp_path)


@pytest.mark.slow
def test_the_wheel_alone_serves_in_an_empty_folder(folder, tmp_path):
    (tmp_path / "source").mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "src"):
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, tmp_path / "source" / name)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--no-deps", "--wheel-dir", str(tmp_path), str(tmp_path / "source")]
    subprocess.run(build, check=True, capture_output=True, timeout=300)
    wheel = next(tmp_path.glob("bonesoup-*.whl"))
    subprocess.run([*pip, "install", "--no-deps", "--target", str(tmp_path / "site"), str(wheel)], check=True)
    (empty := tmp_path / "empty").mkdir()
    env = environment(tmp_path / "site")
    subprocess.run(command(commands(folder)), cwd=empty, env=env, check=True, capture_output=True, timeout=300)
    written(empty)
    served = command([["serve", str(folder / "soup.yaml"), "--port", "0"]])
    process = subprocess.Popen(served, cwd=empty, env=env, stdout=subprocess.PIPE, text=True)
    try:
        address = next(match[1] for line in process.stdout if (match := re.search(r"(http://\S+?)/$", line.strip())))
        body = {"model": "soup", "prompt": "Hello", "max_tokens": 4, "adapters": {"calm": 1.4, "bold": -0.4}}
        answer = httpx.post(f"{address}/v1/completions", json=body, timeout=60).raise_for_status().json()
        assert answer["coefficients"] == {"calm": 1.4, "bold": -0.4}
        assert answer["usage"]["completion_tokens"] >= 1
    finally:
        process.terminate()
        process.wait(60)
    written(empty)
