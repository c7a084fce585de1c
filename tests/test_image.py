"""The Dockerfile, without an engine: every step is a target of the Makefile, and those are run here."""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from projects import ROOT, TOOLS

IGNORED = [
    line.strip()
    for line in (ROOT / ".dockerignore").read_text().splitlines()
    if line.strip() and not line.startswith("#")
]


def steps() -> list[tuple[str, str]]:
    """List (instruction, rest) of the Dockerfile, continued lines joined."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text().replace("\\\n", " "), flags=re.MULTILINE)
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines() if line.strip()]


STEPS = steps()
RUNS = [rest for kind, rest in STEPS if kind == "RUN"]


def targets() -> set[str]:
    return set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_every_run_is_a_target_of_the_makefile():
    assert len(RUNS) == 4
    for run in RUNS:
        program, target, *variables = shlex.split(run)
        assert program == "make"
        assert target in targets()
        assert all(re.match(r"[A-Z_]+=", variable) for variable in variables), run


def test_it_has_a_stage_to_build_and_one_to_run_and_both_are_pinned():
    bases = [rest for kind, rest in STEPS if kind == "FROM"]
    assert [base.partition(" AS ")[2] for base in bases] == ["build", ""]
    assert all(re.match(r"python:3\.11\.\d+-(slim-)?bookworm\b", base) for base in bases)


def test_the_last_user_is_not_root():
    users = [i for i, (kind, _) in enumerate(STEPS) if kind == "USER"]
    assert not re.match(r"(root|0)\b", STEPS[users[-1]][1])
    assert {kind for kind, _ in STEPS[users[-1] :]} == {"USER", "HEALTHCHECK", "CMD"}


def test_what_is_copied_exists_and_is_not_ignored():
    for kind, rest in STEPS:
        if kind != "COPY" or "--from" in rest:
            continue
        *sources, _ = rest.split()
        for source in sources:
            assert (ROOT / source).exists(), source
            assert source not in IGNORED, source


def test_the_dependencies_are_the_locked_ones_without_those_of_the_tests():
    assert RUNS[0].startswith("make dependencies")
    assert "LOCK=requirements.lock" in shlex.split(RUNS[0])
    named = [line.split("==")[0] for line in (ROOT / "requirements.lock").read_text().splitlines()]
    assert {"torch", "psycopg2-binary", "dvc-s3", "boto3"} <= set(named)
    assert not {"pytest", "hypothesis", "ruff", "moto", "check-jsonschema"} & set(named)
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in (ROOT / "requirements.lock").read_text().splitlines())


def test_results_secrets_and_history_stay_out():
    assert {".git", ".env", ".venv", "out", "var", "scratch", "soups", ".dvc/cache", ".dvc/config.local"} <= set(
        IGNORED
    )
    # What git ignores at the root is nothing an image should hold.
    for line in (ROOT / ".gitignore").read_text().splitlines():
        if line.startswith("/"):
            assert line.strip("/") in IGNORED


def image_context(folder: Path) -> Path:
    """List the files that COPY . . brings into the image."""
    top = [name for name in os.listdir(ROOT) if name not in IGNORED]
    folder.mkdir()
    for name in top:
        if (ROOT / name).is_dir():
            hidden = shutil.ignore_patterns(
                "__pycache__", "*.egg-info", *(i.split("/")[1] for i in IGNORED if "/" in i)
            )
            shutil.copytree(ROOT / name, folder / name, ignore=hidden)
        else:
            shutil.copy2(ROOT / name, folder / name)
    return folder


@pytest.mark.slow
def test_the_targets_of_the_image_make_a_project_that_runs_without_git(tmp_path):
    """Every step except apt and the download of packages, whose versions are only looked up."""
    project, venv = image_context(tmp_path / "project"), tmp_path / "venv"
    variables = {
        name: value for name, value in os.environ.items() if name not in ("PIP_ARGS", "VENV", "LOCK", "PYTHONPATH")
    }

    def make(*words: str, **more: str) -> str:
        done = subprocess.run(
            ["make", *words],
            cwd=project,
            env=variables | more,
            capture_output=True,
            text=True,
            timeout=580,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def changed(run: str) -> list[str]:
        words = shlex.split(run)[1:]
        values = {"VENV": str(venv), "OWNER": f"{os.getuid()}:{os.getgid()}"}
        return [f"{n}={values.get(n, v)}" if v else n for n, _, v in (word.partition("=") for word in words)]

    dependencies, install, _, image = [changed(run) for run in RUNS]
    lookup = "PIP_ARGS=--dry-run --no-deps"
    make(*[word for word in dependencies if not word.startswith("PIP_ARGS")], lookup)
    make(*[word for word in install if not word.startswith("PIP_ARGS")])
    assert (venv / "bin/bonesoup").is_file()
    # The packages themselves are those of this environment.
    (venv / "bin/dvc").symlink_to(TOOLS / "dvc")
    make(*image)
    path = f"{TOOLS}{os.pathsep}{os.environ['PATH']}"
    run = {"PATH": path, "PYTHONPATH": str(project / "src"), "HOME": str(tmp_path), "GIT_CEILING_DIRECTORIES": "/"}
    listed = subprocess.run(["dvc", "stage", "list"], cwd=project, env=run, capture_output=True, text=True, check=False)
    assert "register" in listed.stdout, listed.stderr
    ran = subprocess.run(
        ["bonesoup", "run", "prepare"], cwd=project, env=run, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert (project / "out/data/prompts.jsonl").is_file()
