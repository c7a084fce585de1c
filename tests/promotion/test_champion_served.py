"""The server and the registry: the default source, and a champion that moves under load."""

import threading
import time

import httpx
import pytest
from mlflow import MlflowClient
from soup_server import serving

pytestmark = pytest.mark.slow


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


def test_without_a_champion_and_a_run_it_says_what_to_do(folder, league):
    with (
        pytest.raises(AssertionError, match="has no soup bone to serve: `bonesoup run` makes it"),
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
