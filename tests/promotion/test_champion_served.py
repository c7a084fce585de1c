"""The server and the registry: the default source, and a champion that moves under load."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest
from cryptography.fernet import Fernet
from mlflow import MlflowClient
from mlflow_server import serving as mlflow_serving
from prefect_server import free_port
from soup_server import serving

from bonesoup.registry import events
from bonesoup.serving.hooks import PATH

pytestmark = pytest.mark.slow
SECRET = "a secret of this test alone"
BONESOUP = Path(sys.executable).with_name("bonesoup")


@pytest.fixture
def folder(league, tmp_path):
    """Make a project without a run, on the league's store."""
    settings = league.root / "params.yaml"
    (tmp_path / "params.yaml").write_text(settings.read_text().replace("name: bonesoup", "name: league"))
    return tmp_path


@pytest.fixture
def crown(league):
    client = MlflowClient(league.uri)
    yield lambda version: client.set_registered_model_alias(league.model, "champion", version)
    client.delete_registered_model_alias(league.model, "champion")


def test_the_champion_is_followed_without_losing_a_request(league, folder, crown):
    crown("1")
    env = {"MLFLOW_TRACKING_URI": league.uri}
    with serving("--follow", cwd=folder, env=env) as running:
        assert httpx.get(f"{running.url}/v1/soup").json()["version"] == "1"
        assert httpx.get(f"{running.url}/v1/soup").json()["front"]["unit"] == "gold"
        body = {"model": f"{league.model}@helpful=0.5,harmless=0.5", "seed": 1, "max_tokens": 40}
        body |= {"messages": [{"role": "user", "content": "how do i bake bread ?"}]}
        statuses, stop = [], threading.Event()

        def load() -> None:
            while not stop.is_set():
                statuses.append(httpx.post(f"{running.url}/v1/chat/completions", json=body).status_code)

        threads = [threading.Thread(target=load) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            crown("2")
            until = time.monotonic() + 60
            while httpx.get(f"{running.url}/health").json()["version"] != "2" and time.monotonic() < until:
                time.sleep(0.2)
            asked = len(statuses)
            while len(statuses) < asked + 20:
                time.sleep(0.05)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert httpx.get(f"{running.url}/health").json()["version"] == "2"
        assert set(statuses) == {200}
        assert any("now serving version 2" in line for line in running.lines)
        # A rollback: back to a version that was served before; the files of the one between go.
        crown("1")
        until = time.monotonic() + 60
        while httpx.get(f"{running.url}/health").json()["version"] != "1" and time.monotonic() < until:
            time.sleep(0.2)
        answer = httpx.post(f"{running.url}/v1/chat/completions", json=body)
        assert answer.status_code == 200
        kept = [soup.parents[1].name for soup in (folder / "var").rglob("artifacts/soup.json")]
        assert f"{league.model}-2" not in kept, kept


def seconds_until(client: MlflowClient, model: str, url: str, version: str) -> float:
    """Seconds from the alias on a version to its answers."""
    until, moved = time.monotonic() + 120, None
    while time.monotonic() < until:
        if moved is None and str(client.get_registered_model(model).aliases.get("champion")) == version:
            moved = time.monotonic()
        if moved and httpx.get(f"{url}/health").json()["version"] == version:
            return time.monotonic() - moved
        time.sleep(0.02)
    raise AssertionError(f"version {version} is not served")


def test_an_event_of_the_mlflow_server_has_its_champion_served_within_two_seconds(league, folder, tmp_path):
    arguments = ["server", "--backend-store-uri", league.uri, "--workers", "1"]
    variables = {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": Fernet.generate_key().decode(),
        "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http",
        "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
        "MLFLOW_WEBHOOK_CACHE_TTL": "1",
    }
    with mlflow_serving(arguments, free_port(), tmp_path, "/health", **variables) as (store, _):
        client = MlflowClient(store, store)
        client.set_registered_model_alias(league.model, "champion", "1")
        env = {"MLFLOW_TRACKING_URI": store, events.SECRET: SECRET}
        try:
            with serving("--follow", cwd=folder, env=env) as running:
                wanted = ["model_version_alias.created", "model_version_alias.deleted"]
                hook = client.create_webhook("bonesoup", f"{running.url}{PATH}", wanted, secret=SECRET)
                # The server keeps its list of webhooks for so long.
                time.sleep(1.5)
                times = []
                for version in ("2", "1", "2"):
                    client.set_registered_model_alias(league.model, "champion", version)
                    times.append(seconds_until(client, league.model, running.url, version))
                client.delete_webhook(hook.webhook_id)
        finally:
            client.delete_registered_model_alias(league.model, "champion")
    print("seconds from alias to answers:", times)
    assert sorted(times)[1] < 2, times


def test_a_promotion_without_a_server_is_told_and_served_within_two_seconds(league, folder, crown):
    crown("1")
    env = {"MLFLOW_TRACKING_URI": league.uri, events.SECRET: SECRET}
    with serving("--follow", cwd=folder, env=env) as running:
        client, times = MlflowClient(league.uri), []
        env[events.URLS] = f"{running.url}{PATH} http://127.0.0.1:{free_port()}/nobody"
        for arguments, version in (
            (("promote", "2", "--force", "--reason", "a test"), "2"),
            (("rollback", "--reason", "a test"), "1"),
        ):
            command = subprocess.Popen(
                [BONESOUP, *arguments], cwd=league.root, env=os.environ | env, stderr=subprocess.PIPE, text=True
            )
            times.append(seconds_until(client, league.model, running.url, version))
            _, errors = command.communicate(timeout=60)
            assert command.returncode == 0, errors
            assert errors.strip() == "127.0.0.1 was not told of the new champion: ConnectionError"
    print("seconds from alias to answers:", times)
    assert min(times) < 2, times


def test_without_a_champion_and_a_run_it_says_what_to_do(folder, league):
    with (
        pytest.raises(AssertionError, match="`bonesoup run` chooses the soup"),
        serving(cwd=folder, env={"MLFLOW_TRACKING_URI": league.uri}),
    ):
        pass


def test_a_version_by_its_number_and_one_that_cannot_be_steered(folder, league):
    env = {"MLFLOW_TRACKING_URI": league.uri}
    with serving(f"models:/{league.model}/3", cwd=folder, env=env) as running:
        assert httpx.get(f"{running.url}/v1/models").json()["data"][0]["version"] == "3"
        assert running.stop() == 0
    assert not list((folder / "var").glob("serve-*")), "the version's files go with the process"
    with (
        pytest.raises(
            AssertionError, match=f"takes every new champion of the registry, and this is models:/{league.model}/3"
        ),
        serving(f"models:/{league.model}/3", "--follow", cwd=folder, env=env),
    ):
        pass
    with (
        pytest.raises(AssertionError, match="answers one preference only and cannot be steered"),
        serving("models:/league-backbone-1/1", cwd=folder, env=env),
    ):
        pass
