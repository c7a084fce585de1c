"""promote-soup, evaluate-models and watch-data on a real Prefect server with a real worker."""

import json
import shutil

import pytest
from mlflow import MlflowClient
from prefect_server import until

from bonesoup.profiles import yaml

pytestmark = pytest.mark.slow
TRAIN = "train-soup/on-demand"


def champion(project) -> int | None:
    client = MlflowClient(f"sqlite:///{project.folder}/var/mlflow.db")
    aliases = client.get_registered_model("bonesoup-soup").aliases
    return int(aliases["champion"]) if "champion" in aliases else None


def lenient(project) -> None:
    """A rule that any soup meets: the tiny policies of these tests are no better than their Rewarded Soup."""
    path = project.folder / "mlflow/promotion.yaml"
    rule = yaml.load(path)
    for gain in rule["gains"]:
        gain["min_gain"] = -100
    for guard in ("controllability", "objectives"):
        rule["guards"][guard]["tolerance"] = 100
    rule["guards"]["kl"]["max"] = 1000
    with open(path, "w") as out:
        yaml.dump(rule, out)


def test_a_version_is_promoted_once_somebody_has_agreed(prefect, project, worker):
    lenient(project)
    run = prefect.launch(TRAIN)
    assert prefect.ended(run)["name"] == "Completed", prefect.log(run)
    assert champion(project) is None

    asked = prefect.launch("promote-soup/with-approval")
    until(lambda: prefect.state(asked).get("name") == "Suspended", "the run waits for approval", 180)
    assert champion(project) is None
    prefect.post(f"flow_runs/{asked}/resume")
    assert prefect.ended(asked)["name"] == "Completed", prefect.log(asked)
    assert champion(project) == 1
    assert json.loads(prefect.artifacts(asked)["promotion"]["data"])

    scored = prefect.launch("evaluate-models/weekly")
    assert prefect.ended(scored)["name"] == "Completed", prefect.log(scored)
    assert json.loads(prefect.artifacts(scored)["evaluation"]["data"])


def test_new_data_starts_train_soup_and_nothing_else_does(prefect, project, worker):
    watch = "watch-data/hourly"
    early = prefect.launch(watch)
    assert "train-soup has not run yet" in prefect.ended(early)["message"]
    # The word tables stand for a data file that DVC tracks: outside the code, in the commit as a pointer.
    tables = project.folder / "words.yaml"
    shutil.copy(project.folder / "src/bonesoup/data/embedded.yaml", tables)
    project.set(data__path="words.yaml")
    for command in (["dvc", "add", "words.yaml"], ["git", "add", "."], ["git", "commit", "-qam", "own tables"]):
        assert project.run(*command).status == 0
    run = prefect.launch(TRAIN, stages=["prepare"])
    assert prefect.ended(run)["name"] == "Completed", prefect.log(run)
    quiet = prefect.launch(watch)
    assert prefect.ended(quiet)["message"] == "no tracked input has changed"

    tables.write_text(tables.read_text() + "# another version\n")
    for command in (["dvc", "add", "words.yaml"], ["git", "commit", "-qam", "new tables"]):
        assert project.run(*command).status == 0
    noticed = prefect.launch(watch)
    assert "words.yaml changed: started" in prefect.ended(noticed)["message"]
    deployment = prefect.get(f"deployments/name/{TRAIN}")["id"]
    started = prefect.post("flow_runs/filter", deployments={"id": {"any_": [deployment]}}, sort="START_TIME_DESC")
    assert len(started) == 2
    again = prefect.launch(watch)
    prefect.ended(again)
    started = prefect.post("flow_runs/filter", deployments={"id": {"any_": [deployment]}})
    assert len(started) == 2, "the same change starts one run"
