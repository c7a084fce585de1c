"""Decisions that are overtaken or cut off: nothing is overwritten, and everything is on record."""

import threading
from pathlib import Path

import pytest
from decisions import evidence, holder
from mlflow import MlflowClient

from bonesoup.promotion import champion


def move_alias(league, version: str) -> None:
    """Move the alias as another client would, in a separate thread."""

    def move():
        MlflowClient(league.uri, league.uri).set_registered_model_alias(league.model, "champion", version)

    thread = threading.Thread(target=move)
    thread.start()
    thread.join()


def test_a_champion_that_changed_while_it_was_judged_is_not_replaced(league, decide):
    decide("1")

    def echo(line):
        if "judged against" in line:
            move_alias(league, "3")

    decision = decide("2", echo=echo)
    assert decision.verdict == champion.REFUSED
    assert "was league-soup/1 when this was decided and is league-soup/3 now: nothing was moved" in decision.note
    assert holder(league) == "3"
    assert evidence(league, "2")[-1]["verdict"] == "refused"


def test_the_loser_of_a_race_reports_it(league, decide):
    """Somebody moves the alias between the move and the look after it."""
    decide("1")

    def echo(line):
        if "reading the alias again" in line:
            move_alias(league, "3")

    decision = decide("2", echo=echo)
    assert decision.verdict == champion.LOST
    assert "somebody else has made it league-soup/3 meanwhile" in decision.note
    assert decision.after == "league-soup/3"
    assert holder(league) == "3"
    assert evidence(league, "2")[-1]["verdict"] == "lost the race"
    assert "previous_champion" not in league.store.client.get_model_version(league.model, "2").tags


def test_the_evidence_is_there_before_the_alias_moves(league, decide):
    decide("1")

    def echo(line):
        if "champion league-soup/1 -> league-soup/2" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decide("2", echo=echo)
    assert holder(league) == "1"
    assert evidence(league, "2")[-1]["verdict"] == "unfinished"


def test_the_lock_lies_beside_the_database_or_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert champion.lock_file("sqlite:////a/b/mlflow.db") == Path("/a/b/mlflow.db.champion.lock")
    server = champion.lock_file("http://user:secret@host:5000")
    assert server.parent == tmp_path / "bonesoup"
    assert server == champion.lock_file("http://other:word@host:5000"), "whoever asks, it is the same store"
    assert server != champion.lock_file("http://host:5001")
