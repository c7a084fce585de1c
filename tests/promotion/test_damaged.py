"""Versions whose files changed, are missing, or were never listed: refusals, and the reach of a force."""

import shutil
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from decisions import evidence, failed, holder

from bonesoup.promotion import champion
from bonesoup.registry import versions


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


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
