"""Stages side by side, on a toy pipeline: order, failures, Ctrl-C and kill -9."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from pinned import default

from bonesoup.settings import params
from bonesoup.workspace import schedule

ROOT = Path(__file__).parents[2]
# Each stage notes when it starts and ends, and fails where a file of its name asks for it.
STEP = """
import json, os, sys, time
sys.path.insert(0, SOURCE)
from bonesoup.locks import die_with_parent
die_with_parent()  # as every stage does
name, seconds = sys.argv[1], float(sys.argv[2])
open(f"began-{name}", "w").close()
began = time.time()
if os.path.exists(f"fail-{name}"):
    sys.exit(f"bonesoup: {name} was told to fail")
time.sleep(seconds)
with open(f"out/{name}.txt", "w") as out:
    out.write(name)
with open("times.jsonl", "a") as times:
    print(json.dumps([name, began, time.time()]), file=times)
"""
SECONDS = {"first": 0.1, "left": 8, "right": 8, "last": 0.1}
NEEDS = {"first": [], "left": ["first"], "right": ["first"], "last": ["left", "right"]}


@pytest.fixture
def pipeline(tmp_path, monkeypatch):
    """Make and enter a project whose stages `left` and `right` can run at the same time."""
    (tmp_path / "step.py").write_text(STEP.replace("SOURCE", repr(str(ROOT / "src"))))
    (tmp_path / "params.yaml").write_text("{}\n")
    stages = {
        name: {
            "cmd": f"{sys.executable} step.py {name} {SECONDS[name]}",
            "deps": ["step.py", *(f"out/{other}.txt" for other in needs)],
            "outs": [f"out/{name}.txt"],
        }
        for name, needs in NEEDS.items()
    }
    (tmp_path / "dvc.yaml").write_text(json.dumps({"stages": stages}))
    (tmp_path / "out").mkdir()
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
    monkeypatch.chdir(tmp_path)
    # A stage that has never run waits for 4 GB, which a small machine may lack.
    monkeypatch.setattr(schedule, "UNKNOWN_PEAK", 2**20)
    return tmp_path


def times(folder: Path) -> dict[str, tuple[float, float]]:
    rows = map(json.loads, (folder / "times.jsonl").read_text().splitlines())
    return {name: (began, ended) for name, began, ended in rows}


def run(targets: list[str], jobs: int = 2) -> list[str]:
    said: list[str] = []
    schedule.reproduce(targets, [None] * jobs, said.append, lambda text: None)
    return said


@pytest.mark.slow
def test_independent_stages_run_at_once_and_none_before_its_inputs(pipeline):
    said = run([])
    ran = times(pipeline)
    assert set(ran) == set(NEEDS)
    for name, needs in NEEDS.items():
        assert all(ran[other][1] <= ran[name][0] for other in needs), name
    assert ran["left"][0] < ran["right"][1], "side by side"
    assert ran["right"][0] < ran["left"][1]
    assert [line for line in said if "last" in line][0].startswith(r"[bold]\[4/4] last[/bold]  (")
    assert run([]) == [rf"[dim]\[{k}/4] {name}: unchanged[/dim]" for k, name in enumerate(NEEDS, start=1)]
    # What is due only because something upstream has changed is looked at, and not run if its inputs came out the same.
    (pipeline / "out/right.txt").unlink()
    said = run([])
    assert r"[dim]\[3/4] right: restored from the cache[/dim]" in said
    assert r"[dim]\[4/4] last: unchanged[/dim]" in said


@pytest.mark.slow
def test_after_a_failure_nothing_starts_and_the_rest_goes_on_from_there(pipeline):
    (pipeline / "fail-left").touch()
    with pytest.raises(RuntimeError, match="stage left failed: left was told to fail\nFinished stages are kept"):
        run([])
    assert set(times(pipeline)) == {"first", "right"}, "the one that ran beside it was waited for"
    (pipeline / "fail-left").unlink()
    run(["left"])
    assert "last" not in times(pipeline), "not asked for"
    run([])
    assert len((pipeline / "times.jsonl").read_text().splitlines()) == len(NEEDS), "none ran twice"


@pytest.mark.parametrize(
    ("available", "peaks", "chosen"),
    [
        (9e9, {}, "right"),
        (1e9, {}, None),
        (1e9, {"left": 10**8, "right": 10**8}, "right"),
        (2.4e9, {"left": 10**9, "right": 2 * 10**9}, None),
    ],
    ids=["plenty", "too little for a stage that has never run", "enough by what it took before", "the other grows yet"],
)
def test_a_second_stage_starts_only_if_memory_allows(monkeypatch, tmp_path, available, peaks, chosen):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(schedule.psutil, "virtual_memory", lambda: SimpleNamespace(available=available))
    run = schedule._Run(schedule.Work(NEEDS, {"left", "right"}), [None] * 2, lambda line: None, lambda text: None)
    run.peaks = peaks
    assert run._next() == "left", "a lone one always starts"
    run.waiting.remove("left")
    run.running[Future()] = ("left", time.monotonic())
    assert run._next() == chosen


def test_a_stage_under_accelerate_has_every_device(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    settings = params.check(default())
    assert len(schedule.devices(settings, jobs=3)) == 3
    hardware = settings.hardware.model_copy(update={"accelerate": "accelerate/fsdp.yaml"})
    assert schedule.devices(settings.model_copy(update={"hardware": hardware, "device": "cuda"})) == [None]


PROGRAM = (
    "from bonesoup.workspace import schedule; schedule.reproduce([], [None] * 2, lambda line: print(line, flush=True), "
    "lambda text: None)"
)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["Ctrl-C", "kill -9"])
def test_an_interrupted_run_leaves_nothing_behind_and_resumes(pipeline, how):
    shutil.copy(pipeline / "dvc.yaml", pipeline / "kept.yaml")
    (pipeline / "dvc.yaml").write_text((pipeline / "kept.yaml").read_text().replace(' 8"', ' 60"'))
    with open(pipeline / "log", "w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            stdout=log,
            stderr=log,
            env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
    deadline = time.monotonic() + 240
    while not all((pipeline / f"began-{name}").exists() for name in ("left", "right")):
        assert process.poll() is None, (pipeline / "log").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    if how == "Ctrl-C":
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.kill()
    process.wait(120)
    gone, alive = psutil.wait_procs(family[1:], timeout=30)
    assert not alive
    (pipeline / "dvc.yaml").write_text((pipeline / "kept.yaml").read_text())
    run([])
    assert set(times(pipeline)) == set(NEEDS)
