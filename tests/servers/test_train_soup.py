"""train-soup on a real Prefect server with a real worker: stages, artifacts, checkouts and faults."""

import json
import shutil
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import psutil
import pytest
from mlflow import MlflowClient
from prefect_server import free_port, kill_tree, stop, until

from bonesoup.locks import exclusive

pytestmark = pytest.mark.slow
RUN = "train-soup/on-demand"


def checkout(project) -> Path:
    return project.folder / "var/checkouts/train-soup"


def versions(project) -> dict[str, int]:
    client = MlflowClient(f"sqlite:///{project.folder}/var/mlflow.db")
    versions = client.search_model_versions()
    return {name: sum(v.name == name for v in versions) for name in {v.name for v in versions}}


def trainers(folder: Path) -> list[psutil.Process]:
    """List processes that train a policy of this checkout, without the processes they forked."""
    processes = {}
    for process in psutil.process_iter(["cmdline", "cwd", "ppid"]):
        words = process.info["cmdline"] or []
        if words[1:3] and words[-3:-1] == ["stage", "policy"] and process.info["cwd"] == str(folder):
            processes[process.pid] = process
    return [process for process in processes.values() if process.info["ppid"] not in processes]


def adapters(folder: Path, group: str) -> dict[str, bytes]:
    return {p.parent.name: p.read_bytes() for p in (folder / "out/policies" / group).rglob("*.safetensors")}


def settled(prefect, run: str) -> dict[str, str]:
    """Map the tasks of an ended run to their states; the server hears of the last a moment after the end."""
    open_states = {"Pending", "Running", "Scheduled"}

    def states() -> dict[str, str] | None:
        # A task that the server has only just heard of has no state yet.
        states = {name: (task["state"] or {"name": "Pending"})["name"] for name, task in prefect.tasks(run).items()}
        return None if open_states & set(states.values()) else states

    return until(states, "all tasks have ended", 30)


def training(project, steps: int = 2) -> bool:
    """Return True if a policy has trained some steps in the checkout and has not finished."""
    for log in (checkout(project) / "scratch/policies").glob("*/steps.jsonl"):
        if len(log.read_text().splitlines()) >= steps and not (log.parent / "adapter").exists():
            return True
    return False


def test_a_run_restores_what_is_known_registers_and_leaves_the_workspace_alone(prefect, project, worker):
    before = project.files("out"), project.files("dvc.lock"), project.run("git", "status", "--porcelain").output
    run = prefect.launch(RUN)
    assert prefect.ended(run)["name"] == "Completed", prefect.log(run)
    states = settled(prefect, run)
    assert states["register"] == "Completed"
    # Tidying a workspace is never restored from the run cache.
    assert {name for name, state in states.items() if state == "Cached"} == set(states) - {"tidy", "register"}
    assert checkout(project).joinpath("out/report/index.html").is_file()
    after = project.files("out"), project.files("dvc.lock"), project.run("git", "status", "--porcelain").output
    assert before == after

    made = versions(project)
    assert made["bonesoup-soup"] == made["bonesoup-merged-balanced"] == 1
    shown = prefect.artifacts(run)
    assert "mlflow.db" in shown["mlflow-run"]["data"]
    assert shown["fronts"]["data"].startswith("data:image/png;base64,")
    assert "Bone Soup" in shown["methods"]["data"]
    assert {row["model"] for row in json.loads(shown["versions"]["data"])} >= {"bonesoup-soup", "bonesoup-backbone-1"}

    again = prefect.launch(RUN)
    assert "0 of" in prefect.ended(again)["message"]
    assert set(settled(prefect, again).values()) == {"Cached"}
    assert versions(project) == made


def test_settings_are_refused_before_anything_runs(prefect, project, worker):
    run = prefect.launch(RUN, overrides={"rl.stepz": 3})
    assert "no setting 'rl.stepz'" in prefect.ended(run)["message"]
    assert prefect.tasks(run) == {}


@pytest.fixture
def webhook():
    """Listen on loopback: (address, what was sent to it)."""
    received = []

    class Listener(BaseHTTPRequestHandler):
        def do_POST(self):
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Listener)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/hook-7f3a9", received
    server.shutdown()


def test_a_failed_gate_is_not_retried_and_the_webhook_hears_of_it(prefect, project, tmp_path, webhook):
    address, received = webhook
    prefect.deploy(project)
    worker = prefect.work(project, tmp_path / "worker.log", BONESOUP_WEBHOOK=address)
    run = prefect.launch(RUN, overrides={"gates.reward": {"min_accuracy": 1.0, "on_failure": "fail"}})
    state = prefect.ended(run)
    stop(worker)
    assert state["name"] == "Failed"
    assert "gates.reward.min_accuracy = 1.0" in state["message"]
    assert settled(prefect, run)["policy@backbones"] == "NotReady"
    assert prefect.tasks(run)["gate@reward"]["run_count"] == 1
    assert [(note["flow"], note["id"], note["state"]) for note in received] == [("train-soup", run, "Failed")]
    assert "hook-7f3a9" not in (tmp_path / "worker.log").read_text() + prefect.log(run)


@pytest.fixture(scope="module")
def unbroken(finished, tmp_path_factory):
    """Train the longer policies of the faults below, without a fault."""
    project = finished.project.copy(tmp_path_factory.mktemp("unbroken") / "project")
    project.set(rl__steps=16)
    done = project.repro("policy@backbones", "policy@specialists")
    assert done.status == 0, done.output
    return {group: adapters(project.folder, group) for group in ("backbones", "specialists")}


LONGER = {"overrides": {"rl.steps": 16}, "stages": ["policy@backbones", "policy@specialists"]}


@pytest.mark.parametrize("victim", ["worker", "dvc"])
def test_killed_in_the_middle_of_a_policy_and_run_again_at_once(prefect, project, worker, tmp_path, unbroken, victim):
    first = prefect.launch(RUN, **LONGER)
    until(lambda: training(project, 4), "a policy trains")
    if victim == "worker":
        kill_tree(worker)
        worker = prefect.work(project, tmp_path / "second.log")
    else:
        for trainer in trainers(checkout(project)):
            psutil.Process(trainer.ppid()).kill()
    second = prefect.launch(RUN, **LONGER)
    most = 0

    def over() -> bool:
        nonlocal most
        groups = [process.info["cmdline"][-1] for process in trainers(checkout(project))]
        most = max([most, *(groups.count(group) for group in set(groups))])
        return prefect.state(second).get("type") in ("COMPLETED", "FAILED", "CRASHED")

    until(over, "the second run ends", 240)
    stop(worker)
    assert prefect.state(second)["name"] == "Completed", prefect.log(second)
    assert most == 1, "one trainer a group at any time"
    assert "resuming at step" in prefect.log(second) + prefect.log(first)
    assert {group: adapters(checkout(project), group) for group in unbroken} == unbroken


def test_a_prefect_server_that_restarts_in_the_middle_is_waited_for(prefect, project, worker, unbroken):
    run = prefect.launch(RUN, **LONGER)
    until(lambda: training(project), "a policy trains")
    stop(prefect.process)
    assert not prefect.healthy()
    prefect.start()
    assert prefect.ended(run)["name"] == "Completed", prefect.log(run)
    assert {group: adapters(checkout(project), group) for group in unbroken} == unbroken


def test_two_runs_at_once_wait_for_each_other(prefect, project, worker):
    runs = [prefect.launch(RUN, overrides={"evaluation.bootstrap": 55}) for _ in range(2)]
    assert [prefect.ended(run)["name"] for run in runs] == ["Completed", "Completed"]
    messages = sorted(prefect.state(run)["message"] for run in runs)
    assert messages[0].startswith("0 of")
    assert not messages[1].startswith("0 of")
    assert "{}" in project.run("dvc", "--cd", str(checkout(project)), "status", "--json").output


def test_a_schedule_that_fires_while_a_run_goes_on_is_skipped_with_a_note(prefect, project, worker):
    deployment = prefect.get(f"deployments/name/{RUN}")
    with exclusive(project.folder / "var/checkouts/train-soup.lock", wait=0):
        added = prefect.schedule(deployment["id"], seconds=5)
        runs = until(lambda: prefect.runs(deployment["id"], "Skipped"), "a scheduled run is skipped")
        prefect.unschedule(deployment["id"], added)
    assert "the run before it is still going" in runs[0]["state"]["message"]


def test_a_dead_tracking_server_costs_nothing_but_a_second_run(prefect, project, tmp_path):
    prefect.deploy(project)
    dead = f"http://127.0.0.1:{free_port()}"
    worker = prefect.work(project, tmp_path / "worker.log", MLFLOW_TRACKING_URI=dead)
    run = prefect.launch(RUN)
    state = prefect.ended(run)
    stop(worker)
    assert state["name"] == "Failed"
    assert "register failed" in state["message"]
    assert "Nothing is lost" in state["message"]
    assert prefect.tasks(run)["register"]["run_count"] == 4, "a server may come back"
    assert checkout(project).joinpath("out/report/index.html").is_file()

    worker = prefect.work(project, tmp_path / "second.log")
    again = prefect.launch(RUN)
    assert prefect.ended(again)["name"] == "Completed", prefect.log(again)
    stop(worker)
    assert versions(project)["bonesoup-soup"] == 1


@pytest.fixture
def dead_remote(project):
    """Give the project a DVC remote at an address where nobody answers."""
    address = f"http://127.0.0.1:{free_port()}/storage"
    assert project.run("dvc", "remote", "add", "--local", "--default", "storage", address).status == 0
    return project


def test_a_remote_that_cannot_be_reached_fails_the_push_alone(prefect, dead_remote, worker):
    run = prefect.launch(RUN, push_results=True)
    state = prefect.ended(run)
    assert state["name"] == "Failed"
    assert "push failed: dvc push failed; every result is kept here" in state["message"]
    assert prefect.tasks(run)["push"]["run_count"] == 3, "a remote may come back"
    assert versions(dead_remote)["bonesoup-soup"] == 1
    assert checkout(dead_remote).joinpath("out/report/index.html").is_file()


def test_tracked_data_in_the_cache_needs_no_remote(prefect, dead_remote, worker):
    shutil.copy(dead_remote.folder / "src/bonesoup/data/embedded.yaml", dead_remote.folder / "words.yaml")
    dead_remote.set(data__path="words.yaml")
    pointers = ["git", "add", "words.yaml.dvc", ".gitignore"]
    for command in (["dvc", "add", "words.yaml"], pointers, ["git", "commit", "-qam", "own tables"]):
        assert dead_remote.run(*command).status == 0
    run = prefect.launch(RUN, stages=["prepare"])
    assert prefect.ended(run)["name"] == "Completed", prefect.log(run)
    assert checkout(dead_remote).joinpath("words.yaml").is_file()
