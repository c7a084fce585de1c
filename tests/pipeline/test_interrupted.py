"""Whatever kills a run, the next one resumes and ends with the same adapters; trainers never overlap."""

import contextlib
import random
import re
import shutil
import subprocess
import time
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.slow
GROUP = "out/policies/backbones"
STEPS = 24
# A whole run with tiny settings takes a minute or two.
KILLS, SECONDS = 8, (8, 30)


@pytest.fixture(scope="session")
def longer(finished, tmp_path_factory):
    """Return the finished pipeline with a longer training set in params.yaml; the policies alone have not yet run."""
    project = finished.project.copy(tmp_path_factory.mktemp("longer") / "project")
    project.set(rl__steps=STEPS)
    result = project.repro("basis", "normalise")
    assert result.status == 0, result.output
    return project


@pytest.fixture(scope="session")
def unbroken(longer, tmp_path_factory) -> dict[str, bytes]:
    """Return all files of the group from a run that nothing disturbed."""
    project = longer.copy(tmp_path_factory.mktemp("unbroken") / "project")
    result = project.repro("policy@backbones")
    assert result.ran == ["policy@backbones"], result.output
    return project.files(GROUP)


@pytest.fixture
def project(longer, tmp_path):
    return longer.copy(tmp_path / "project")


def checkpoints(project) -> set[Path]:
    return set(project.folder.glob("scratch/policies/*/checkpoint-*.pt"))


def test_the_unbroken_run_is_what_it_should_be(unbroken):
    assert set(unbroken) == {
        f"backbone-{k}/{name}"
        for k in (1, 2)
        for name in ("adapter_config.json", "adapter_model.safetensors", "policy.json", "steps.jsonl")
    }
    for k in (1, 2):
        assert len(unbroken[f"backbone-{k}/steps.jsonl"].splitlines()) == STEPS
    assert unbroken["backbone-1/adapter_model.safetensors"] != unbroken["backbone-2/adapter_model.safetensors"]


@pytest.mark.parametrize(
    ("how", "command"),
    [
        ("dvc", ["dvc", "repro", "policy@backbones"]),
        ("stage", ["dvc", "repro", "policy@backbones"]),
        ("group", ["bonesoup", "run", "policy@backbones"]),
        ("dvc", ["bonesoup", "run", "policy@backbones"]),
    ],
    ids=["kill -9 of dvc", "kill -9 of the stage", "Ctrl-C", "kill -9 of bonesoup run"],
)
def test_an_interrupted_policy_resumes_to_the_same_adapter(project, unbroken, interrupt, tmp_path, how, command):
    printed = interrupt(project, command, lambda: checkpoints(project), how, tmp_path / "log")
    assert project.files(GROUP) == {}, "an out appeared before it was whole"
    assert "Traceback" not in printed
    if how == "group":
        assert printed.rstrip().endswith("bonesoup: interrupted; run the same command again to resume")

    again = project.repro("policy@backbones")
    assert again.status == 0, again.output
    assert again.ran == ["policy@backbones"]
    resumed = re.search(rf"backbone-1: resuming at step (\d+) of {STEPS}", again.output)
    assert resumed, again.output
    assert 0 < int(resumed[1]) < STEPS
    assert project.files(GROUP) == unbroken
    assert sorted(p.name for p in (project.folder / "out/policies").iterdir()) == [
        "backbones",
        "oracles",
        "specialists",
    ]


def test_a_kill_while_the_result_is_copied_leaves_no_trace(project, unbroken, interrupt, tmp_path):
    """A folder half written beside the outs must not become part of what depends on their parent."""
    torn = project.folder / "out/policies/.backbones.999999999.tmp"
    torn.mkdir()
    (torn / "half").write_text("half")
    status = project.run("dvc", "status", "soup")
    assert "out/policies" not in status.output, status.output
    shutil.rmtree(project.folder / GROUP)
    assert project.repro("policy@backbones").status == 0
    assert not torn.exists()
    assert project.files(GROUP) == unbroken


def test_a_torn_checkpoint_is_not_resumed(project, unbroken, interrupt, tmp_path):
    """A kill while a checkpoint is written leaves a temporary file next to the last whole one."""
    interrupt(
        project, ["dvc", "repro", "policy@backbones"], lambda: len(checkpoints(project)) > 1, "dvc", tmp_path / "log"
    )
    for whole in checkpoints(project):
        whole.with_name(f".checkpoint-{STEPS}.pt.999999999.tmp").write_bytes(b"torn")
    assert project.repro("policy@backbones").status == 0
    assert project.files(GROUP) == unbroken


def trainers(project) -> list[psutil.Process]:
    checkpoints = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if words[-3:-1] == ["stage", "policy"] and Path(process.cwd()) == project.folder:
            checkpoints.append(process)
    return checkpoints


def test_two_repros_at_once_train_once(project, unbroken, tmp_path):
    """The second is turned away by DVC's lock or waits; afterwards one more call finds nothing to do."""
    command = ["dvc", "repro", "policy@backbones"]
    processes = [project.start(*command, log=tmp_path / f"log{i}") for i in (1, 2)]
    most = 0
    while any(process.poll() is None for process in processes):
        most = max(most, len(trainers(project)))
        time.sleep(0.05)
    assert most == 1
    assert 0 in [process.returncode for process in processes]
    assert project.repro("policy@backbones").ran == []
    assert project.files(GROUP) == unbroken


def test_two_groups_with_the_same_row_train_it_once(project, tmp_path):
    """Without DVC between them, the lock on the row makes the second take the first one's adapter."""
    logs = [tmp_path / name for name in ("specialists", "oracles")]
    processes = [project.start("bonesoup", "stage", "policy", log.name, log=log) for log in logs]
    assert [process.wait(300) for process in processes] == [0, 0]
    printed = [log.read_text() for log in logs]
    # Specialist 1 and 2 are oracle 3 and 1.
    assert sum(text.count("is trained already, taking its adapter") for text in printed) == 2
    specialists, oracles = project.files("out/policies/specialists"), project.files("out/policies/oracles")
    for a, b in (("specialist-1", "oracle-3"), ("specialist-2", "oracle-1")):
        assert specialists[f"{a}/adapter_model.safetensors"] == oracles[f"{b}/adapter_model.safetensors"]


def test_the_same_stage_twice_by_hand_waits_for_the_other(project, unbroken, tmp_path):
    logs = [tmp_path / "one", tmp_path / "two"]
    processes = [project.start("bonesoup", "stage", "policy", "backbones", log=log) for log in logs]
    assert [process.wait(300) for process in processes] == [0, 0]
    assert any("waiting for process" in log.read_text() for log in logs)
    assert project.files(GROUP) == unbroken


def test_a_run_whose_processes_are_killed_at_random_ends_as_an_unbroken_one(finished, untouched, tmp_path):
    """Now and then kill -9 hits one process of `bonesoup run`, a stage or what started it; the command is repeated."""
    rng, killed = random.Random(0), []
    process = None
    while len(killed) < KILLS:
        if process is None:
            process = untouched.start("bonesoup", "run", log=tmp_path / f"log-{len(killed)}")
        deadline = time.monotonic() + rng.uniform(*SECONDS)
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        if process.poll() == 0:
            break
        if process.poll() is not None:
            # It ended the stages next to the one that was killed first.
            process = None
            continue
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        victim = rng.choice([member for member in family if member.is_running()])
        with contextlib.suppress(psutil.NoSuchProcess):
            killed.append(" ".join(victim.cmdline()))
            victim.kill()
        # A run survives the death of a helper that is no stage.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
            # DVC takes the lock of a process that is still dying for one that is held.
            psutil.wait_procs(family, timeout=30)
            process = None
    assert len(killed) >= 3, "it ended before anything could be killed"
    if process is not None:
        process.wait(600)
    last = untouched.run("bonesoup", "run")
    assert last.status == 0, (killed, last.output)
    for folder in ("out/sft", "out/rewards", "out/policies", "out/fronts"):
        assert untouched.files(folder) == finished.project.files(folder), (folder, killed)
    report = "out/metrics/report.json"
    assert (untouched.folder / report).read_bytes() == (finished.project.folder / report).read_bytes()
