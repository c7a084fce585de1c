"""Promotion on a local store: gains and guards under a rule, force, evidence, and models that move along."""

import json
from dataclasses import asdict

import pytest
from decisions import RULE, evidence, failed, holder
from typer.testing import CliRunner

from bonesoup.cli.main import app
from bonesoup.promotion import champion, rule
from bonesoup.promotion.promote import promote
from bonesoup.promotion.scoring import Machine
from bonesoup.registry import scores, yardstick
from bonesoup.registry.listing import listing


def test_the_first_champion_is_judged_against_the_rewarded_soup_of_its_own_run(league, decide):
    decision = decide("1")
    assert decision.verdict == champion.PROMOTED
    assert decision.incumbent == "the Rewarded Soup of league-soup/1"
    assert holder(league) == "1"
    assert failed(decision) == []
    gain = next(check for check in decision.checks if check.name == "gain in gold/inner_product_interior")
    assert 0 < gain.low < gain.value < gain.high


def test_the_merged_models_of_the_run_go_with_it(league, decide):
    decide("1")
    assert holder(league, "league-merged-balanced") == "1"
    decision = decide("2")
    assert holder(league, "league-merged-balanced") == "2"
    assert decision.merged == ("league-merged-balanced/2 is champion with it",)


def test_a_promotion_leaves_its_evidence_with_the_version(league, decide):
    decide("1")
    decision = decide("2")
    assert decision.incumbent == "league-soup/1"
    last = evidence(league, "2")[-1]
    assert last == json.loads(json.dumps(asdict(decision)))
    assert last["verdict"] == "promoted"
    assert (last["before"], last["after"]) == ("league-soup/1", "league-soup/2")
    assert last["rule"]["gains"][0]["metric"] == "inner_product_interior"
    assert last["yardstick"] == yardstick.current(league.store, "league").tags["digest"]
    tags = league.store.client.get_model_version(league.model, "2").tags
    assert tags["decision"].startswith("promoted")
    assert tags["previous_champion"] == "1"


def test_a_worse_version_is_refused_and_the_refusal_recorded(league, decide):
    decide("2")
    decision = decide("3")
    assert decision.verdict == champion.REFUSED
    assert failed(decision) == [
        "gain in gold/inner_product_interior",
        "gold/helpful against SFT at the even preference",
        "gold/harmless against SFT at the even preference",
    ]
    assert holder(league) == "2"
    assert evidence(league, "3")[-1] == json.loads(json.dumps(asdict(decision)))
    assert "refused" in league.store.client.get_model_version(league.model, "3").tags["decision"]


def test_a_gain_that_may_be_none_is_refused(league, decide):
    """2 beats 1 by about 0.3; not the estimate alone but its whole interval has to lie above min_gain."""
    decide("1")
    applied = rule.load(RULE)
    first = decide("2", dry_run=True)
    gain = next(check for check in first.checks if check.name.startswith("gain"))
    between = (gain.low + gain.value) / 2
    strict = applied.model_copy(update={"gains": [applied.gains[0].model_copy(update={"min_gain": between})]})
    decision = decide("2", applied=strict)
    assert decision.verdict == champion.REFUSED
    assert failed(decision) == ["gain in gold/inner_product_interior"]


@pytest.mark.parametrize(
    ("guards", "name"),
    [
        ({"kl": {"max": 0.1}}, "kl"),
        ({"controllability": {"tolerance": 0.1}}, None),
    ],
)
def test_guard_rails(league, decide, guards, name):
    applied = rule.load(RULE)
    guarded = rule.Rule.model_validate(
        applied.model_dump(by_alias=True) | {"guards": applied.guards.model_dump() | guards}
    )
    assert failed(decide("1", applied=guarded)) == ([name] if name else [])


def test_lower_can_be_better(league, decide):
    applied = rule.load(RULE).model_dump(by_alias=True)
    applied["gains"] = [{"metric": "inner_product", "better": "lower", "min_gain": 0}]
    decision = decide("3", applied=rule.Rule.model_validate(applied))
    gain = next(check for check in decision.checks if check.name.startswith("gain"))
    assert gain.passed
    assert 0 < gain.low < gain.value < gain.high


def test_a_metric_the_yardstick_does_not_give_is_named(league, decide):
    applied = rule.load(RULE).model_dump(by_alias=True)
    applied["gains"][0]["metric"] = "hypervolume@-7"
    with pytest.raises(ValueError, match=r"asks for hypervolume@-7; .* hypervolume@-1, hypervolume@-2"):
        decide("1", applied=rule.Rule.model_validate(applied))


def test_force_overrules_and_is_on_record(league, decide):
    decide("2")
    with pytest.raises(ValueError, match="--force needs a --reason"):
        decide("3", force=True)
    decision = decide("3", force=True, reason="a demonstration")
    assert decision.verdict == champion.PROMOTED
    assert decision.forced
    assert holder(league) == "3"
    last = evidence(league, "3")[-1]
    assert (last["forced"], last["reason"]) == (True, "a demonstration")
    tag = league.store.client.get_model_version(league.model, "3").tags["decision"]
    assert "by force" in tag
    assert "a demonstration" in tag


def test_a_version_of_uncommitted_code_needs_force(league, decide):
    # Dry: recording it would score the version, which another test must find without scores.
    decision = decide("4", dry_run=True)
    assert "code is committed" in failed(decision)
    assert decision.verdict == champion.REFUSED
    assert decide("4", dry_run=True, force=True, reason="a hotfix").verdict == champion.PROMOTED


def test_a_dry_run_decides_and_leaves_no_trace(league, decide):
    count = len(evidence(league, "1"))
    decision = decide("1", dry_run=True)
    assert (decision.verdict, decision.dry_run) == (champion.PROMOTED, True)
    assert holder(league) is None
    assert len(evidence(league, "1")) == count
    assert "decision" not in league.store.client.get_model_version(league.model, "1").tags


def test_a_champion_without_scores_on_the_yardstick_is_scored_first(league, tmp_path):
    client = league.store.client
    digest = yardstick.current(league.store, "league").tags["digest"]
    lines = []
    before = client.get_model_version(league.model, "4")
    if scores.scored(before, digest):
        pytest.fail("version 4 must not be scored before this test")
    client.set_registered_model_alias(league.model, "champion", "4")
    machine = Machine("cpu", 8, tmp_path)
    decision = promote(league.store, league.uri, "league", rule.load(RULE), "2", machine, lines.append, dry_run=True)
    assert decision.incumbent == "league-soup/4"
    assert any("league-soup/4: scoring bone on 8 prompts" in line for line in lines)
    assert scores.scored(client.get_model_version(league.model, "4"), digest) == [], "a dry run records nothing"
    decision = promote(league.store, league.uri, "league", rule.load(RULE), "2", machine, lines.append)
    assert decision.yardstick == digest
    assert scores.scored(client.get_model_version(league.model, "4"), digest) == ["bone", "rewarded", "sft"]


def test_the_champion_stays_champion(league, decide):
    decide("1")
    count = len(evidence(league, "1"))
    league.store.client.delete_registered_model_alias("league-merged-balanced", "champion")
    decision = decide("1")
    assert decision.verdict == champion.KEPT
    assert len(evidence(league, "1")) == count
    assert holder(league, "league-merged-balanced") == "1", "a promotion that was cut short is completed"


def test_only_soups_are_promoted(league, decide):
    with pytest.raises(ValueError, match="league-merged-balanced/1 is not promoted by itself"):
        decide("league-merged-balanced/1")
    with pytest.raises(ValueError, match=r"league-soup has no 9; it has versions 1, 2, 3, 4"):
        decide("9")
    with pytest.raises(ValueError, match="names no version"):
        decide("../../etc")


def test_by_default_the_newest_is_promoted(league, decide):
    assert decide(dry_run=True).version == "league-soup/4"


def test_a_champion_of_an_unknown_run_leaves_merged_models_alone(league, decide, untagged):
    decide("2")
    untagged("1", "pipeline")
    decision = decide("1", force=True, reason="older")
    assert holder(league) == "1"
    assert holder(league, "league-merged-balanced") == "2"
    (line,) = decision.merged
    assert line.startswith("merged models are left as they are: league-soup/1 has no tag `pipeline`")


@pytest.fixture
def neighbours(league):
    """Register models of projects whose names begin with `league`, each with a champion."""
    client = league.store.client
    source = client.get_model_version(league.model, "1")
    made = {
        "league-7b-soup": "soup",
        "league-7b-merged-balanced": "merged",
        "league-merged-soup": "soup",
        "league-merged-x-soup": "soup",
        "league-merged-x-merged-y": "merged",
    }
    for name, kind in made.items():
        client.create_registered_model(name, {"kind": kind})
        tags = {"kind": kind, "pipeline": f"of {name.rpartition('-merged-')[0]}"}
        client.create_model_version(name, source.source, source.run_id, tags=tags)
        client.set_registered_model_alias(name, "champion", "1")
    yield list(made)
    for name in made:
        client.delete_registered_model(name)


def test_models_of_a_project_with_a_longer_name_are_not_touched(league, decide, neighbours):
    decide("1")
    champion.demote(league.store, league.uri, "league", None, lambda line: None)
    assert [holder(league, name) for name in neighbours] == ["1"] * len(neighbours)
    listed = list(listing(league.store, "league")["models"])
    assert listed == ["league-soup", "league-backbone-1", "league-backbone-2", "league-merged-balanced"]
    assert list(listing(league.store, "league-merged-x")["models"]) == [
        "league-merged-x-soup",
        "league-merged-x-merged-y",
    ]


def test_other_objectives_are_refused_whatever_the_force(league, decide):
    client = league.store.client
    client.set_model_version_tag(league.model, "2", "objectives", "helpful,humor")
    try:
        decision = decide("2", force=True, reason="try")
    finally:
        client.set_model_version_tag(league.model, "2", "objectives", "helpful,harmless")
    assert decision.verdict == champion.REFUSED
    assert "league-soup/2 is about helpful, humor, the yardstick" in decision.note
    assert evidence(league, "2")[-1]["note"] == decision.note


def test_the_command_prints_one_json_object_and_its_status_tells_the_verdict(league, monkeypatch):
    monkeypatch.chdir(league.root)
    runner = CliRunner()
    done = runner.invoke(app, ["promote", "2", "--json"])
    assert done.exit_code == 0, done.stderr
    decision = json.loads(done.stdout)
    assert (decision["verdict"], decision["granted"]) == ("promoted", True)
    done = runner.invoke(app, ["promote", "3", "--json"])
    assert done.exit_code == 1
    assert json.loads(done.stdout)["verdict"] == "refused"
    done = runner.invoke(app, ["promote", "3"])
    assert done.exit_code == 1
    assert "league-soup/3 refused, judged against league-soup/2." in done.stdout
    assert runner.invoke(app, ["promote", "3", "--force"]).exit_code == 2
    assert json.loads(runner.invoke(app, ["demote", "--json"]).stdout)["verdict"] == "demoted"
