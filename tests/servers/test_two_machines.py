"""One pipeline on two workers in two clones that share a DVC remote and a Prefect server, and nothing else."""

import json
import shutil
import subprocess

import pytest
from prefect_server import stop
from projects import Project

pytestmark = pytest.mark.slow


def stages_run(clone: Project) -> set[str]:
    """List stages that ran (were not restored) in the checkout of a worker's clone."""
    log = clone.folder / "var/checkouts/stages/var/stages.jsonl"
    return {json.loads(line)["stage"] for line in log.read_text().splitlines()} if log.is_file() else set()


def test_stages_run_in_two_clones_and_come_back_through_the_remote(prefect, fresh, tmp_path):
    names = ["first", "second", "third"]
    for name in names:
        subprocess.run(["git", "clone", "--quiet", fresh.folder, tmp_path / name], check=True)
    clones = [Project(tmp_path / name) for name in names]
    for clone in clones:
        added = clone.run("dvc", "remote", "add", "--local", "--default", "storage", str(tmp_path / "storage"))
        assert added.status == 0, added.output
    orchestrator, *others = clones
    prefect.deploy(orchestrator)
    workers = [prefect.work(clone, tmp_path / f"{clone.folder.name}.log") for clone in others]
    command = "from flows.train_soup import train_soup; train_soup(on_other_machines=True)"
    variables = prefect.variables() | {"BONESOUP_HOME": str(orchestrator.folder)}
    done = orchestrator.run("python", "-c", command, **variables)
    for worker in workers:
        stop(worker)
    assert done.status == 0, done.output

    checkout = orchestrator.folder / "var/checkouts/train-soup"
    here = {json.loads(line)["stage"] for line in (checkout / "var/stages.jsonl").read_text().splitlines()}
    first, second = map(stages_run, others)
    assert here == {"register"}, "every other stage ran on another machine"
    assert first
    assert second
    assert not first & second, "no stage ran twice"
    assert {"policy@backbones", "policy@specialists", "sft", "report"} <= first | second

    alone = Project(tmp_path / "alone")
    shutil.copytree(fresh.folder, alone.folder, symlinks=True)
    assert alone.repro("policy@backbones").status == 0
    assert alone.files("out/policies/backbones") == Project(checkout).files("out/policies/backbones")
