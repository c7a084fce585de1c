"""`bonesoup clean` and what is not the registry's: workspaces, caches, checkouts, servers."""

import os
import shutil
from pathlib import Path

import mlflow
import pytest
from mlflow_server import tracking
from prefect_server import free_port
from typer.testing import CliRunner

from bonesoup.cli.upkeep import commands
from bonesoup.files import digest
from bonesoup.settings import params
from bonesoup.upkeep import clean, gc
from bonesoup.workspace import dvc_lock, objects

pytestmark = pytest.mark.slow


def test_a_shared_clean_leaves_the_workspace_alone_even_while_it_is_at_work(house):
    from bonesoup.locks import exclusive

    house.run()
    checkout = house.root / "var/checkouts/nightly"
    shutil.copytree(house.root, checkout, ignore=shutil.ignore_patterns("var", "cache"))
    objects.dvc(checkout, "cache", "dir", "--local", str(house.root / ".dvc/cache"))
    for _ in range(2):
        house.run()
    abandoned = [checkout / "scratch/policies/abandoned/adapter", checkout / "var/work-killed"]
    for folder in [*abandoned, house.root / "out/policies/renamed", house.root / "var/work-killed"]:
        folder.mkdir(parents=True)
        os.utime(folder, (0, 0))

    def workspace() -> set[Path]:
        paths = [path for part in ("out", "scratch", "var/work-killed") for path in (house.root / part).rglob("*")]
        return {house.root / "var/work-killed", *paths}

    before = workspace()
    with exclusive(house.root / "scratch/policy@backbones.lock"):
        plan = house.clean(keep=1, shared=True)
    (house.root / "scratch/policy@backbones.lock").unlink()
    assert workspace() == before
    assert plan.objects
    assert house.soups == ["3"]
    assert not any(folder.exists() for folder in abandoned)
    assert (checkout / "scratch/policies" / digest(1)).is_dir(), "the checkout's own policies have it"
    plan = house.clean(keep=1)
    assert not (house.root / "out/policies/renamed").exists()
    assert not (house.root / "var/work-killed").exists()


def test_a_version_without_a_manifest_is_said_apart_and_is_not_damaged(house, monkeypatch):
    house.run()
    version = house.store.client.get_model_version("bonesoup-soup", "1")
    folder = house.root / f"var/mlartifacts/models/{version.source.removeprefix('models:/')}/artifacts"
    (folder / "lineage/manifest.json").unlink()
    monkeypatch.chdir(house.root)
    lost = CliRunner().invoke(commands, ["verify", "1"])
    assert (type(lost.exception), "lineage/manifest.json: missing" in lost.output) == (RuntimeError, True)
    house.store.client.delete_model_version_tag("bonesoup-soup", "1", "manifest")
    early = CliRunner().invoke(commands, ["verify", "1"])
    assert (early.exit_code, early.exception) == (0, None)
    assert "bonesoup-soup/1: has no manifest, so it cannot be checked" in early.output
    (folder / "artifacts/backbone-1/adapter_model.safetensors").write_bytes(b"other")
    assert "not what the lineage names" in CliRunner().invoke(commands, ["verify", "1"]).output
    assert not list(house.root.glob("var/version-*"))


def test_a_dry_run_and_a_busy_workspace_delete_nothing(house):
    from bonesoup.locks import exclusive

    for _ in range(2):
        house.run()
    before = sorted(path for path in house.root.rglob("*") if ".dvc/tmp" not in str(path))
    plan = clean.plan(house.root, params.load(house.root / "params.yaml"), 1)
    assert plan.retention.versions
    assert plan.objects
    with (
        exclusive(house.root / "scratch/policy@backbones.lock"),
        pytest.raises(RuntimeError, match=r"is at work, so nothing was deleted: process \d+ holds .*policy@backbones"),
    ):
        clean.carry_out(house.root, plan, lambda line: None)
    (house.root / "scratch/policy@backbones.lock").unlink()
    assert sorted(path for path in house.root.rglob("*") if ".dvc/tmp" not in str(path)) == before


def test_without_a_store_only_folders_are_cleaned(house, monkeypatch):
    for _ in range(2):
        house.run()
    stale = house.root / "out/policies/renamed"
    stale.mkdir()
    settings = params.load(house.root / "params.yaml")
    for uri in ("http://127.0.0.1:9", f"sqlite:///{house.root}/nowhere.db"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        plan = clean.plan(house.root, settings, 1)
        assert (plan.retention, plan.objects, plan.leftovers) == (None, [], [stale])
        assert "nothing is cleaned there, nor in the DVC cache" in plan.notes[0]
        assert (plan.failed is None) == uri.startswith("sqlite"), "where there never was a store, nothing has failed"
    assert not (house.root / "nowhere.db").exists()


def test_a_cache_outside_the_repository_is_left_alone(house, tmp_path):
    for _ in range(2):
        house.run()
    shutil.move(house.root / ".dvc/cache", tmp_path / "shared")
    objects.dvc(house.root, "cache", "dir", "--local", str(tmp_path / "shared"))
    plan = clean.plan(house.root, params.load(house.root / "params.yaml"), 1)
    assert plan.objects == []
    assert "others may need it" in plan.notes[0]


@pytest.mark.parametrize("place", ["var/checkouts/nightly", "var/study/small/default-0"])
def test_what_a_checkout_or_an_unfinished_cell_uses_stays_in_the_shared_cache(house, place):
    house.run()
    checkout = house.root / place
    shutil.copytree(house.root, checkout, ignore=shutil.ignore_patterns("var", "cache"))
    objects.dvc(checkout, "cache", "dir", "--local", str(house.root / ".dvc/cache"))
    names = {out.name for out in dvc_lock.outs(checkout / "dvc.lock")}
    for _ in range(2):
        house.run()
    house.clean(keep=1)
    assert house.soups == ["3"]
    states = objects.examine(objects.cache(house.root), names)
    assert not states.missing
    shutil.rmtree(checkout)
    assert gc.unused(house.root, set()), "they stayed for the checkout alone"


def test_a_server_frees_the_files_it_keeps(house, tmp_path, monkeypatch):
    """Over HTTP: files and versions go; the rows of runs stay, marked as deleted, for the server's own mlflow gc."""
    before = mlflow.get_tracking_uri()
    port = free_port()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    try:
        with tracking(port, tmp_path):
            for _ in range(3):
                house.run()
            held = [path for path in tmp_path.rglob("adapter_model.safetensors") if "house" not in path.parts]
            first = house.store.client.get_model_version("bonesoup-soup", "1")
            plan = clean.plan(house.root, params.load(house.root / "params.yaml"), 1)
            (_, models), (runs, _), *_ = plan.sizes().values()
            assert runs > 8
            assert models > sum(path.stat().st_size for path in held) / 2, "asked over HTTP"
            clean.carry_out(house.root, plan, lambda line: None)
            left = [path for path in held if path.is_file()]
            assert len(left) == len(held) / 3
            assert house.soups == ["3"]
            assert house.sound("3")
            assert house.store.client.get_run(first.run_id).info.lifecycle_stage == "deleted"
            again = clean.plan(house.root, params.load(house.root / "params.yaml"), 1)
            assert (again.retention.versions, again.retention.models, again.retention.runs) == ([], [], [])
    finally:
        mlflow.set_tracking_uri(before)
