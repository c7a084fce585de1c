"""Promotion on a local store: promotions, refusals, races and rollbacks under a rule."""

import json
import shutil
import tempfile
import threading
from dataclasses import asdict, replace
from pathlib import Path
from urllib.parse import urlsplit

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner

from bonesoup.cli.main import app
from bonesoup.evaluation.samples import Front
from bonesoup.files import read_json
from bonesoup.promotion import champion, rule
from bonesoup.promotion.promote import promote
from bonesoup.promotion.rule import unit_of
from bonesoup.promotion.scoring import Machine
from bonesoup.registry import scores, versions, yardstick
from bonesoup.registry.listing import listing

RULE = Path(__file__).parents[2] / "mlflow/promotion.yaml"


@pytest.fixture
def decide(league, tmp_path):
    """Return decide("2", force=..., ...), which decides as `bonesoup promote` does."""

    def call(version=None, applied=None, echo=lambda line: None, **options):
        applied = applied or rule.load(RULE)
        with tempfile.TemporaryDirectory(dir=tmp_path) as work:
            machine = Machine("cpu", 8, Path(work))
            return promote(league.store, league.uri, league.prefix, applied, version, machine, echo, **options)

    return call


@pytest.fixture
def back(league, tmp_path):
    """Return back("why"), which goes back as `bonesoup rollback` does."""

    def call(reason=None):
        with tempfile.TemporaryDirectory(dir=tmp_path) as work:
            return champion.rollback(league.store, league.uri, league.prefix, reason, Path(work), lambda line: None)

    return call


@pytest.fixture
def files(league):
    """Return files("2"): the folder of a version in the store; undo what a test does to it."""
    kept = []

    def folder(version: str, model: str = league.model) -> Path:
        name = league.store.client.get_model_version(model, version).source.removeprefix("models:/")
        path = Path(urlsplit(league.store.client.get_logged_model(name).artifact_location).path)
        copy = path.with_name(f"{path.name}.kept")
        shutil.copytree(path, copy)
        kept.append((path, copy))
        return path

    yield folder
    for path, copy in kept:
        shutil.rmtree(path, ignore_errors=True)
        copy.rename(path)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def holder(league, model: str | None = None) -> str | None:
    version = versions.aliased(league.store.client, model or league.model, "champion")
    return str(version.version) if version else None


def evidence(league, version: str) -> list[dict]:
    """List every decision that a version holds, oldest first."""
    run = league.store.client.get_model_version(league.model, version).run_id
    files = sorted(item.path for item in league.store.client.list_artifacts(run, "decisions"))
    return [read_json(Path(mlflow.artifacts.download_artifacts(run_id=run, artifact_path=file))) for file in files]


def failed(decision) -> list[str]:
    return [check.name for check in decision.checks if not check.passed]


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


def test_a_version_with_changed_files_is_refused_unless_forced(league, decide, files):
    flip(files("2") / "artifacts/backbone-1/adapter_model.safetensors")
    decision = decide("2")
    assert decision.verdict == champion.REFUSED
    assert failed(decision) == ["files are as registered"]
    assert "artifacts/backbone-1/adapter_model.safetensors: changed" in decision.note
    assert (holder(league), evidence(league, "2")[-1]["verdict"]) == (None, "refused")
    decision = decide("2", force=True, reason="that adapter is not used")
    assert (decision.verdict, decision.forced) == (champion.PROMOTED, True)
    assert "damaged" in evidence(league, "2")[-1]["note"]


@pytest.mark.parametrize("gone", [".", "artifacts/backbone-1/adapter_model.safetensors", "lineage/manifest.json"])
def test_a_version_with_missing_files_is_refused_whatever_the_force(league, decide, files, gone):
    path = files("2") / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    for options in ({}, {"force": True, "reason": "now"}):
        decision = decide("2", **options)
        assert decision.verdict == champion.REFUSED
        assert failed(decision) == ["files are as registered"]
        assert "missing), and no force helps: name another version" in decision.note
    assert holder(league) is None


def test_a_version_from_before_lists_of_files_needs_force(league, decide, back, untagged):
    untagged("1", "manifest")
    decision = decide("1")
    assert decision.verdict == champion.REFUSED
    (check,) = decision.checks
    assert (check.name, check.passed) == ("files are as registered", False)
    assert "a list of files in the registry (tag `manifest`)" in check.demand
    assert decide("1", force=True, reason="the only one").verdict == champion.PROMOTED
    decide("2")
    assert "without a list" in back().note


def test_a_version_without_list_and_files_is_not_forced(league, decide, files, untagged):
    untagged("2", "manifest")
    shutil.rmtree(files("2"))
    decision = decide("2", force=True, reason="now")
    assert decision.verdict == champion.REFUSED
    assert "its files in the store: missing" in decision.note


def test_rollback_to_a_damaged_version_is_refused_and_moves_nothing(league, decide, back, files):
    decide("1")
    decide("2")
    count = len(evidence(league, "2"))
    folder = files("1")
    (base,) = versions.versions(league.store.client, "league-base")
    place = Path(urlsplit(league.store.client.get_run(base.run_id).info.artifact_uri).path) / "base/model.safetensors"
    flip(place)
    try:
        with pytest.raises(ValueError, match=r"is damaged .* its base with SHA-256 .*league-base/1 has"):
            back()
    finally:
        flip(place)
    flip(folder / "artifacts/backbone-1/adapter_model.safetensors")
    with pytest.raises(
        ValueError, match=r"league-soup/1 is damaged .* stays league-soup/2: artifacts/backbone-1/adapter.*changed"
    ):
        back()
    shutil.rmtree(folder)
    with pytest.raises(ValueError, match=r"league-soup/1 is damaged .*: its files in the store: missing"):
        back()
    assert (holder(league), holder(league, "league-merged-balanced")) == ("2", "2")
    assert len(evidence(league, "2")) == count


@pytest.fixture
def untagged(league):
    """Return untagged("1", tag): make a version what it was before there was this tag."""
    client, taken = league.store.client, []

    def take(version: str, tag: str) -> None:
        taken.append((version, tag, client.get_model_version(league.model, version).tags[tag]))
        client.delete_model_version_tag(league.model, version, tag)

    yield take
    for version, tag, value in taken:
        client.set_model_version_tag(league.model, version, tag, value)


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


def test_demote_takes_the_alias_away(league, decide):
    decide("1")
    decision = champion.demote(league.store, league.uri, "league", "harmful answers", lambda line: None)
    assert (decision.before, decision.after) == ("league-soup/1", None)
    assert decision.merged == ("league-merged-balanced/1 is no longer champion: no soup is",)
    assert (holder(league), holder(league, "league-merged-balanced")) == (None, None)
    assert evidence(league, "1")[-1]["reason"] == "harmful answers"
    with pytest.raises(ValueError, match="league-soup has no champion"):
        champion.demote(league.store, league.uri, "league", None, lambda line: None)


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


def test_the_lock_lies_beside_the_database_or_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert champion.lock_file("sqlite:////a/b/mlflow.db") == Path("/a/b/mlflow.db.champion.lock")
    server = champion.lock_file("http://user:secret@host:5000")
    assert server.parent == tmp_path / "bonesoup"
    assert server == champion.lock_file("http://other:word@host:5000"), "whoever asks, it is the same store"
    assert server != champion.lock_file("http://host:5001")


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("gains: []", ["schema: missing", "unit: missing", "gains: ", "guards: missing"]),
        (RULE.read_text().replace("unit: best", "unit: silver"), ["unit: "]),
        (RULE.read_text().replace("inner_product_interior", "goodness"), ["gains.0.metric: "]),
        (RULE.read_text().replace("min_gain: 0.0", "min_gain: -1"), ["gains.0.min_gain: "]),
        (RULE.read_text() + "\nkindness: 1\n", ["kindness: unknown key"]),
        (
            RULE.read_text().replace("kl: {max: 10.0}", "kl: {max: .inf, min: 2}"),
            ["guards.kl.max: ", "guards.kl.min: "],
        ),
    ],
)
def test_every_fault_of_a_rule_is_named_at_once(tmp_path, text, faults):
    path = tmp_path / "promotion.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match="promotion.yaml has") as error:
        rule.load(path)
    for fault in faults:
        assert fault in str(error.value)


def test_a_missing_rule_is_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere.yaml does not exist: it is the rule of promotion"):
        rule.load(tmp_path / "nowhere.yaml")


def test_the_best_score_there_is_decides():
    empty = np.zeros((2, 1, 2))
    front = Front("bone", ("a", "b"), ("x", "y"), np.ones((1, 2)) / 2, empty, None, empty[..., 0], empty[..., 0])
    judged = replace(front, judge=empty)
    applied = rule.load(RULE)
    assert unit_of(applied, [judged, judged]) == "judge"
    assert unit_of(applied, [judged, replace(judged, gold=empty)]) == "judge"
    assert unit_of(applied, [judged, front]) == "reward", "only one side has a judge"
    assert unit_of(applied.model_copy(update={"unit": "judge"}), [judged]) == "judge"


def test_the_gold_score_cannot_judge_where_it_is_not_known(league, decide):
    empty = np.zeros((2, 1, 2))
    front = Front("bone", ("a", "b"), ("x", "y"), np.ones((1, 2)) / 2, empty, None, empty[..., 0], empty[..., 0])
    applied = rule.load(RULE)
    assert unit_of(applied, [front]) == "reward"
    assert unit_of(applied, [replace(front, gold=empty)]) == "gold"
    with pytest.raises(ValueError, match="the yardstick does not know"):
        unit_of(applied.model_copy(update={"unit": "gold"}), [front])
