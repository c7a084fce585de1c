"""The servers of compose.yaml, by its own commands: PostgreSQL from Debian, moto for the S3 store."""

import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator

import boto3
import composed
import mlflow
import psutil
import psycopg2
import pytest
from composed import SECRETS, Stack
from mlflow import MlflowClient

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def servers(tmp_path_factory) -> Iterator[Stack]:
    with composed.stack(tmp_path_factory.mktemp("compose")) as stack:
        assert stack.run("buckets").split("\n")[:2] == ["made the bucket mlflow", "made the bucket dvc"]
        assert stack.run("buckets") == "", "the buckets were made twice"
        stack.start("mlflow")
        stack.start("prefect")
        yield stack


@pytest.fixture(scope="module")
def objects(servers):
    """Return objects(bucket), which lists the keys in the S3 store."""
    keys = {name.lower(): value for name, value in SECRETS.items() if name.startswith("AWS_")}
    s3 = boto3.client("s3", endpoint_url=servers.url("s3"), region_name="us-east-1", **keys)
    return lambda bucket: [item["Key"] for item in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]


def test_a_finished_pipeline_is_registered_read_back_and_promoted(servers, objects, project):
    result = project.run("bonesoup", "register", MLFLOW_TRACKING_URI=servers.url("mlflow"))
    assert result.status == 0, result.output
    assert any(key.endswith("model.safetensors") for key in objects("mlflow")), "the weights are not in the S3 store"
    # Reads every file back.
    checked = project.run("bonesoup", "verify", "1", MLFLOW_TRACKING_URI=servers.url("mlflow"))
    assert checked.status == 0, checked.output
    presigned = [line for line in (servers.logs / "s3.log").read_text().splitlines() if "X-Amz-Signature" in line]
    assert presigned == [], "a client was sent to the address of the store, which only containers know"
    client = MlflowClient(servers.url("mlflow"), servers.url("mlflow"))
    for name in ("bonesoup-soup", "bonesoup-merged-balanced"):
        assert [v.version for v in client.search_model_versions(f"name='{name}'")] == ["1"]
    client.set_registered_model_alias("bonesoup-soup", "champion", "1")
    assert client.get_model_version_by_alias("bonesoup-soup", "champion").version == "1"
    client.delete_registered_model_alias("bonesoup-soup", "champion")
    with pytest.raises(mlflow.MlflowException, match="champion"):
        client.get_model_version_by_alias("bonesoup-soup", "champion")


@pytest.mark.parametrize(
    ("host", "status"), [("mlflow:5000", 200), ("127.0.0.1:5000", 200), ("rebound.example", 403), ("10.0.0.9", 403)]
)
def test_mlflow_answers_to_the_names_of_compose_alone(servers, host, status):
    search = urllib.request.Request(
        f"{servers.url('mlflow')}/api/2.0/mlflow/experiments/search",
        json.dumps({"max_results": 1}).encode(),
        {"Host": host, "Content-Type": "application/json"},
    )
    try:
        answer = urllib.request.urlopen(search, timeout=30).status
    except urllib.error.HTTPError as error:
        answer = error.code
    assert answer == status


def test_prefect_keeps_a_flow_run_in_postgresql(servers, tmp_path):
    program = "from prefect import flow\n@flow\ndef stir():\n    return 1\nstir()\n"
    variables = servers.environment("worker") | {"PREFECT_API_URL": f"{servers.url('prefect')}/api"}
    done = subprocess.run([sys.executable, "-c", program], env=variables, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with database(servers, "prefect") as cursor:
        cursor.execute("select flow.name, state_type from flow_run join flow on flow.id = flow_run.flow_id")
        assert cursor.fetchall() == [("stir", "COMPLETED")]


def test_a_second_clone_pulls_what_the_first_pushed(servers, objects, project, tmp_path):
    """The first says in its own settings where the store is, the second has the environment of compose's worker."""
    here = {name: value for name, value in servers.environment("worker").items() if name.startswith("AWS_")}
    keys = {name: value for name, value in here.items() if "KEY" in name}
    second = type(project)(tmp_path / "second")
    project.run("dvc", "remote", "add", "--default", "storage", "s3://dvc/bonesoup")
    project.run("git", "add", "--force", ".dvc/config", "dvc.lock")
    assert project.run("git", "commit", "--quiet", "--message", "a run, and where its results are").status == 0
    subprocess.run(["git", "clone", "--quiet", project.folder, second.folder], check=True)
    project.run("dvc", "remote", "modify", "--local", "storage", "endpointurl", servers.url("s3"))
    assert (pushed := project.run("dvc", "push", "--run-cache", **keys)).status == 0, pushed.output
    assert objects("dvc")
    assert (pulled := second.run("dvc", "pull", "--run-cache", **here)).status == 0, pulled.output
    same = [name for name, content in second.files("out").items() if project.files("out")[name] == content]
    assert "policies/backbones/backbone-1/adapter_model.safetensors" in same
    assert sorted(same) == sorted(second.files("out"))


def test_no_password_stands_in_a_command_line_or_a_log(servers):
    family = [p for s in servers.processes for p in (psutil.Process(s.pid), *psutil.Process(s.pid).children(True))]
    shown = [" ".join(process.cmdline()) for process in family]
    assert any("uvicorn" in line for line in shown), "the servers were not looked at"
    shown += [log.read_text() for log in servers.logs.glob("*.log")]
    for secret in SECRETS.values():
        assert not any(secret in text for text in shown)
    with database(servers, "mlflow") as cursor:
        cursor.execute("select count(*) from alembic_version")
        assert cursor.fetchone() == (1,)


class database:
    """Open a cursor of a database of the stack."""

    def __init__(self, servers: Stack, name: str):
        variables = servers.services["postgres"]["environment"]
        at = {"host": "127.0.0.1", "port": servers.ports["postgres"], "dbname": name}
        self.connection = psycopg2.connect(
            user=variables["POSTGRES_USER"], password=variables["POSTGRES_PASSWORD"], **at
        )

    def __enter__(self):
        return self.connection.cursor()

    def __exit__(self, *_):
        self.connection.close()
