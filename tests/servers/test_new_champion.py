"""A champion promoted or restored by hand is evaluated by a run that nobody started."""

import json
from collections.abc import Callable

import pytest
from miniature import another, copied
from prefect_server import stop, until
from projects import Project

pytestmark = pytest.mark.slow


@pytest.fixture
def do(prefect, untouched, miniature, empty_store, tmp_path) -> Callable[..., None]:
    """Return do("promote"), which runs a command in a finished pipeline; a worker in a clone uses the same store."""
    store = {"MLFLOW_TRACKING_URI": f"sqlite:///{copied(empty_store, tmp_path / 'store/mlflow.db')}"}
    pipeline = Project(another(miniature, tmp_path / "run", {}, seed=1).root)

    def command(*words: str) -> None:
        done = pipeline.run(
            "bonesoup", *words, PREFECT_API_URL=prefect.api, PYTHONPATH=f"{untouched.folder}/src", **store
        )
        assert done.status == 0, done.output
        assert "was not told" not in done.output

    command("register")
    prefect.deploy(untouched)
    worker = prefect.work(untouched, tmp_path / "worker.log", **store)
    yield command
    stop(worker)


def test_a_new_champion_is_evaluated_once(prefect, do, tmp_path):
    deployment = prefect.get("deployments/name/evaluate-models/on-new-champion")["id"]
    seen: list[str] = []

    def started() -> list[str]:
        runs = prefect.post("flow_runs/filter", deployments={"id": {"any_": [deployment]}})
        return [run["id"] for run in runs if run["id"] not in seen]

    def evaluated() -> str:
        """Wait for the next run; return its log."""
        until(started, "a run starts")
        (run,) = started()
        seen.append(run)
        assert prefect.ended(run)["name"] == "Completed", prefect.log(run)
        rows = json.loads(prefect.artifacts(run)["evaluation"]["data"])
        assert {row["version"] for row in rows} == {"bonesoup-soup/1"}
        return prefect.log(run)

    do("promote")
    assert "scoring" not in evaluated(), "a version brings the scores of its own run"

    # A rollback needs no yardstick, so nothing else leads to scores on the new one.
    params = tmp_path / "run/params.yaml"
    params.write_text(params.read_text().replace("bootstrap: 200", "bootstrap: 150"))
    do("yardstick", "--adopt", "--reason", "fewer resamples")
    do("demote")
    do("rollback")
    assert "bonesoup-soup/1: scoring bone on " in evaluated()

    do("demote")
    do("rollback")
    assert "scoring" not in evaluated(), "it was scored twice"
    assert not started(), "a demotion started a run"
