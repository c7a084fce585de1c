"""promote-soup, evaluate-models and watch-data on a real Prefect server with a real worker."""

import json
import shutil

import pytest
from mlflow import MlflowClient
from prefect_server import until

from bonesoup.settings.profiles import yaml

pytestmark = pytest.mark.slow
TRAIN = "train-soup/on-demand"


def champion(project) -> int | None:
    client = MlflowClient(f"sqlite:///{project.folder}/var/mlflow.db")
    aliases = client.get_registered_model("bonesoup-soup").aliases
    return int(aliases["champion"]) if "champion" in aliases else None


def lenient(project) -> None:
    """Write a rule that tiny policies meet: in six steps backbones fall behind specialists, so it asks for that."""
    path = project.folder / "mlflow/promotion.yaml"
    rule = yaml.load(path)
    rule["unit"] = "reward"
    rule["gains"] = [{"metric": "inner_product", "better": "lower", "min_gain": 0.0}]
    for guard in ("controllability", "objectives"):
        rule["guards"][guard]["tolerance"] = 10.0
    with open(path, "w") as out:
        yaml.dump(rule, out)
    assert project.run("git", "commit", "-qam", "another rule").status == 0


def test_a_version_is_promoted_by_rule_once_somebody_has_agreed(prefect, project, worker):
    run = prefect.launch(TRAIN)
    assert prefect.ended(run)["name"] == "Completed", prefect.log(run)
    refused = prefect.launch("promote-soup/by-rule")
    state = prefect.ended(refused)
    assert (state["type"], state["name"]) == ("COMPLETED", "Refused"), prefect.log(refused)
    assert "judged against the Rewarded Soup of bonesoup-soup/1" in state["message"]
    assert champion(project) is None

    lenient(project)
    asked = prefect.launch("promote-soup/with-approval")
    until(lambda: prefect.state(asked).get("name") in ("Suspended", "Refused", "Failed"), "the run waits", 240)
    assert prefect.state(asked)["name"] == "Suspended", prefect.log(asked)
    assert champion(project) is None
    prefect.post(f"flow_runs/{asked}/resume")
    assert prefect.ended(asked)["name"] == "Completed", prefect.log(asked)
    assert champion(project) == 1
    checks = json.loads(prefect.artifacts(asked)["promotion"]["data"])
    assert all(check["passed"] for check in checks)

    scored = prefect.launch("evaluate-models/weekly")
    assert prefect.ended(scored)["name"] == "Completed", prefect.log(scored)
    rows = json.loads(prefect.artifacts(scored)["evaluation"]["data"])
    assert {(row["version"], row["method"]) for row in rows} >= {("bonesoup-soup/1", "bone")}


def test_new_data_starts_train_soup_and_nothing_else_does(prefect, project, worker):
    watch = "watch-data/hourly"
    deployment = prefect.get(f"deployments/name/{TRAIN}")["id"]

    def count() -> int:
        return len(prefect.post("flow_runs/filter", deployments={"id": {"any_": [deployment]}}))

    before = count()
    early = prefect.launch(watch)
    assert "train-soup has not run yet" in prefect.ended(early)["message"]
    # The word tables stand for a data file that DVC tracks: outside the code, in the commit as a pointer.
    tables = project.folder / "words.yaml"
    shutil.copy(project.folder / "src/bonesoup/data/embedded.yaml", tables)
    project.set(data__path="words.yaml")
    pointers = ["git", "add", "words.yaml.dvc", ".gitignore"]
    for command in (["dvc", "add", "words.yaml"], pointers, ["git", "commit", "-qam", "own tables"]):
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
    assert count() == before + 2
    again = prefect.launch(watch)
    prefect.ended(again)
    assert count() == before + 2, "the same change starts one run"
