"""Rollback and demotion: step by step, without circles, and on record."""

import pytest
from decisions import evidence, holder

from bonesoup.promotion import champion
from bonesoup.registry import versions


def test_demote_takes_the_alias_away(league, decide):
    decide("1")
    decision = champion.demote(league.store, league.uri, "league", "harmful answers", lambda line: None)
    assert (decision.before, decision.after) == ("league-soup/1", None)
    assert decision.merged == ("league-merged-balanced/1 is no longer champion: no soup is",)
    assert (holder(league), holder(league, "league-merged-balanced")) == (None, None)
    assert evidence(league, "1")[-1]["reason"] == "harmful answers"
    with pytest.raises(ValueError, match="league-soup has no champion"):
        champion.demote(league.store, league.uri, "league", None, lambda line: None)


def test_rollback_goes_back_step_by_step(league, decide, back):
    decide("1")
    decide("2")
    decide("3", force=True, reason="a mistake")
    first = back("it was a mistake")
    assert (first.verdict, first.before, first.after) == ("rolled back", "league-soup/3", "league-soup/2")
    assert (holder(league), holder(league, "league-merged-balanced")) == ("2", "2")
    for version in ("2", "3"):
        assert evidence(league, version)[-1]["reason"] == "it was a mistake"
    back(None)
    assert holder(league) == "1"
    with pytest.raises(ValueError, match="league-soup/1 followed no other champion"):
        back(None)
    assert holder(league) == "1"


def test_going_back_and_forth_does_not_go_in_circles(league, decide, back):
    decide("1")
    decide("2")
    decide("1", force=True, reason="again")
    for expected in ("2", "1"):
        back(None)
        assert holder(league) == expected
    with pytest.raises(ValueError, match="followed no other champion"):
        back(None)


def test_rollback_after_a_demotion_takes_it_back_and_then_goes_on_step_by_step(league, decide, back):
    decide("1")
    decide("2")
    decide("3", force=True, reason="a mistake")
    champion.demote(league.store, league.uri, "league", "harmful", lambda line: None)
    for after in ("3", "2", "1"):
        decision = back("again")
        assert (decision.verdict, decision.after) == ("rolled back", f"league-soup/{after}")
        assert (holder(league), holder(league, "league-merged-balanced")) == (after, after)
        assert versions.aliased(league.store.client, league.model, versions.DEMOTED) is None
    with pytest.raises(ValueError, match="league-soup/1 followed no other champion"):
        back()


def test_a_demotion_that_is_taken_back_is_on_record(league, decide, back):
    decide("1")
    champion.demote(league.store, league.uri, "league", "harmful", lambda line: None)
    decision = back("it was another model")
    assert (decision.version, decision.before) == ("league-soup/1", None)
    assert decision.sentence == "league-soup/1 is champion again: its demotion is taken back."
    assert evidence(league, "1")[-1]["reason"] == "it was another model"


def test_a_promotion_ends_the_way_back_to_a_demoted_version(league, decide, back):
    decide("1")
    champion.demote(league.store, league.uri, "league", None, lambda line: None)
    decide("2")
    assert versions.aliased(league.store.client, league.model, versions.DEMOTED) is None
    with pytest.raises(ValueError, match="league-soup/2 followed no other champion"):
        back()
    league.store.client.delete_registered_model_alias(league.model, "champion")
    with pytest.raises(ValueError, match="league-soup has no champion"):
        back()
