"""A run whose worker is killed ends as Crashed, by flows/automations.yaml; a run that is alive goes on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from prefect_server import POOL, kill_tree, stop, until
from projects import TOOLS
from ruamel.yaml import YAML

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
FLOW = """
import time

from prefect import flow


@flow
def long(seconds: int = 900):
    time.sleep(seconds)


if __name__ == "__main__":
    long()
"""
GRAPH = {
    "pull": [{"prefect.deployments.steps.set_working_directory": {"directory": "{{ $BONESOUP_HOME }}"}}],
    "deployments": [{"name": "run", "entrypoint": "flow.py:long", "work_pool": {"name": POOL}}],
}


def test_the_run_of_a_killed_worker_is_crashed_and_another_goes_on(prefect, tmp_path):
    yaml, variables = YAML(), prefect.variables() | {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}
    variables |= {"BONESOUP_HOME": str(tmp_path)}
    (tmp_path / "flow.py").write_text(FLOW)
    yaml.dump(GRAPH, tmp_path / "prefect.yaml")
    automations = yaml.load(ROOT / "flows/automations.yaml")
    # The shortest interval of heartbeats is 30 s; as shipped, ten minutes pass.
    automations["automations"][0]["trigger"]["within"] = 70
    yaml.dump(automations, tmp_path / "automations.yaml")
    prefect.post("work_pools/", name=POOL, type="process")
    own = {"cwd": tmp_path, "env": os.environ | variables}
    for arguments in (["automation", "create", "--from-file", "automations.yaml"], ["deploy", "--all"]):
        subprocess.run([TOOLS / "prefect", "--no-prompt", *arguments], **own, check=True, timeout=120)
    work = [TOOLS / "prefect", "worker", "start", "--pool", POOL, "--type", "process"]
    worker = subprocess.Popen(work, **own, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    alive = subprocess.Popen([sys.executable, "flow.py"], **own, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        killed = prefect.launch("long/run")
        until(lambda: prefect.state(killed).get("type") == "RUNNING", "the run starts")
        runs = prefect.post("flow_runs/filter", flow_runs={"state": {"type": {"any_": ["RUNNING"]}}})
        (other,) = {run["id"] for run in runs} - {killed}
        sent = {"event": {"name": ["prefect.flow-run.heartbeat"]}, "resource": {"id": [f"prefect.flow-run.{killed}"]}}
        until(lambda: prefect.post("events/filter", filter=sent)["events"], "a heartbeat arrives")
        kill_tree(worker)
        state = prefect.ended(killed, 200)
        assert (state["type"], "no heartbeat" in state["message"]) == ("CRASHED", True)
        assert prefect.state(other)["type"] == "RUNNING"
    finally:
        stop(alive)
        stop(worker)
