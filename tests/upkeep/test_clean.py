"""`bonesoup clean` on a miniature that registers one run after another, with a DVC cache of its own."""

import random
import shutil
from pathlib import Path

import mlflow
import pytest
from miniature import make_soups

from bonesoup.files import bytes_of
from bonesoup.promotion import champion
from bonesoup.registry.register import register_all
from bonesoup.registry.store import tracking_uri
from bonesoup.registry.versions import PREVIOUS, reference, versions
from bonesoup.settings import params
from bonesoup.settings.schema import Register
from bonesoup.upkeep import clean, retention, verify
from bonesoup.workspace import dvc_lock, objects

pytestmark = pytest.mark.slow
# Kinds of versions that are no models.
KEPT = ("yardstick", "base")


def test_after_any_clean_aliases_and_rollback_targets_verify_and_the_disk_does_not_grow(house):
    """Weeks of nightly runs: promotions, a rollback, a clean after each."""
    sizes, draw = [], random.Random(0)
    for night in range(1, 7):
        house.run()
        if night in (1, 3, 4):
            house.promote(night)
        if night == 5:
            work = house.root / "var/rollback"
            champion.rollback(
                house.store, tracking_uri(house.root), "bonesoup", "worse in use", work, lambda line: None
            )
            shutil.rmtree(work)
        house.clean(keep=draw.choice([1, 2]))

        now = champion.current(house.store, "bonesoup")
        assert house.sound("@champion")
        assert house.sound("bonesoup-merged-balanced@champion")
        if previous := now.tags.get(PREVIOUS):
            assert house.sound(previous), "a rollback finds its target whole"
        answers = mlflow.pyfunc.load_model(f"models:/{reference(now)}").predict(["Please explain baking"])
        assert len(answers) == 1
        needed = dvc_lock.named(lineage_lock(reference(now)))
        data = next(iter(needed - {out.name for out in dvc_lock.outs(lineage_lock(reference(now)))}))
        assert objects.object_path(objects.cache(house.root), data).is_file(), "a rebuild finds its data"
        sizes.append(sum(bytes_of(house.root / part) for part in (".dvc/cache", "var/mlartifacts")))
    # 3 is champion once more, and 1 was before it.
    assert [version for version in house.soups if version not in ("5", "6")] == ["1", "3"]
    assert sizes[-1] < 4.2 * sizes[0], "four versions at most, of six"
    assert [path.name for path in (house.root / "scratch/policies").iterdir() if path.is_dir()] == [house.fingerprint()]


def lineage_lock(name: str) -> Path:
    return Path(mlflow.artifacts.download_artifacts(f"models:/{name}/lineage")) / dvc_lock.LOCK


def test_files_records_and_runs_of_what_goes_are_gone(house):
    for _ in range(3):
        house.run()
    client = house.store.client
    before = {run.info.run_id: run for run in retention.all_runs(house.store)}
    gone = [v for v in client.search_model_versions() if v.version == 1 and v.tags["kind"] not in KEPT]
    assert len(gone) == 4
    house.clean(keep=2)

    models = {model.model_id for model in retention.all_models(house.store)}
    kept = client.search_model_versions()
    assert models == {v.source.removeprefix("models:/") for v in kept if v.tags["kind"] not in KEPT}
    for version in gone:
        assert not list(house.root.glob(f"var/mlartifacts/models/{version.source.removeprefix('models:/')}*"))
        assert not (house.root / "var/mlartifacts" / version.run_id).exists()
    after = {run.info.run_id: run for run in retention.all_runs(house.store)}
    assert sorted(before[run].info.run_name.split()[0] for run in before.keys() - after.keys()) == sorted(
        [
            "pipeline",
            *(f"register@{v.name}" for v in gone),
            "report",
            "scale@rewarded",
            "scale@bone",
            *(f"front@{method}" for method in ("sft", "rewarded", "bone")),
        ]
        + ["policy@backbone-1", "policy@backbone-2", "policy@specialist-1", "policy@specialist-2"]
    )
    # What all runs share was sent once, with the first of them, whose parent is gone.
    shared = next(run for run in after.values() if run.info.run_name == "sft")
    assert shared.data.tags["mlflow.parentRunId"] in after
    assert clean.plan(house.root, params.load(house.root / "params.yaml"), 2).retention.runs == []


def test_a_base_goes_with_the_last_version_that_names_it(house):
    """Later runs are on another base; the first one's stays while a version has an alias, and goes with it."""
    house.run()
    house.promote(1)
    client = house.store.client
    first = client.get_model_version("bonesoup-base", "1")
    (house.root / "out/sft/changed.txt").write_text("another base")
    for _ in range(2):
        house.run()
    house.clean(keep=1)
    assert house.soups == ["1", "3"]
    assert house.sound("1")
    house.promote(3)
    client.delete_model_version_tag("bonesoup-soup", "3", PREVIOUS)
    plan = clean.plan(house.root, params.load(house.root / "params.yaml"), 1)
    assert [reference(base) for base in plan.retention.bases] == ["bonesoup-base/1"]
    clean.carry_out(house.root, plan, lambda line: None)
    assert house.soups == ["3"]
    assert [str(base.version) for base in versions(client, "bonesoup-base")] == ["2"]
    assert not (house.root / "var/mlartifacts" / first.run_id).exists()
    assert house.sound("3")


def test_a_base_that_a_new_version_names_meanwhile_is_kept(house):
    house.run()
    (house.root / "out/sft/changed.txt").write_text("another base")
    for _ in range(2):
        house.run()
    plan = clean.plan(house.root, params.load(house.root / "params.yaml"), 1)
    assert [reference(base) for base in plan.retention.bases] == ["bonesoup-base/1"]
    (house.root / "out/sft/changed.txt").unlink()
    house.run()
    lines = []
    clean.carry_out(house.root, plan, lines.append)
    assert "a version names bonesoup-base/1 meanwhile: kept" in lines
    assert house.sound("4")


def test_a_version_that_gets_an_alias_meanwhile_is_kept_with_all_it_needs(house):
    for _ in range(3):
        house.run()
    plan = clean.plan(house.root, params.load(house.root / "params.yaml"), 1)
    house.promote(1)
    lines = []
    clean.carry_out(house.root, plan, lines.append)
    assert "bonesoup-soup/1 has been given an alias meanwhile: kept" in lines
    assert house.soups == ["1", "3"]
    assert house.sound("1")


def test_a_copy_under_another_name_keeps_its_files(house):
    """Copied before the plan, and between the plan and its carrying out; also where its source is gone already."""
    for _ in range(4):
        house.run()
    client = house.store.client
    client.copy_model_version("models:/bonesoup-soup/1", "prod-assistant")
    client.set_registered_model_alias("prod-assistant", "live", "1")
    # A copy of a copy, whose own source somebody deletes.
    client.copy_model_version("models:/bonesoup-soup/3", "between")
    client.copy_model_version("models:/between/1", "at-last")
    client.delete_model_version("between", "1")
    client.delete_model_version("bonesoup-soup", "3")
    settings, lines = params.load(house.root / "params.yaml"), []
    plan = clean.plan(house.root, settings, 1)
    going = [reference(version) for version in plan.retention.versions if version.name == "bonesoup-soup"]
    assert going == ["bonesoup-soup/2"]
    client.copy_model_version("models:/bonesoup-soup/2", "late")
    clean.carry_out(house.root, plan, lines.append)
    assert lines == ["bonesoup-soup/2 has been copied meanwhile: kept"]
    assert house.soups == ["1", "2", "4"]
    for name in ("prod-assistant@live", "at-last/1", "late/1"):
        assert len(mlflow.pyfunc.load_model(f"models:/{name}").predict(["Please explain baking"])) == 1
    assert house.sound("prod-assistant@live")
    # Once nothing names them they go.
    for name in ("late", "at-last", "prod-assistant"):
        client.delete_registered_model(name)
    house.clean(keep=1)
    assert house.soups == ["4"]


def test_what_no_registration_of_this_project_made_is_left_alone(house):
    """Models and versions of people, and of a project whose name begins like a merged model of this one."""
    house.run()
    client = house.store.client
    mine = client.create_logged_model(house.store.experiment, name="mine")
    tried = client.create_run(house.store.experiment, run_name="tried")
    of_run = client.create_logged_model(house.store.experiment, name="tried", source_run_id=tried.info.run_id)
    register = Register(name="bonesoup-merged", merged=[])
    for seed in (7, 8):
        make_soups(house.root / "out", seed)
        register_all(house.root, house.text, register, house.preferences, lambda line: None)
    sources = {reference(v): v.source for v in client.search_model_versions() if v.name.startswith("bonesoup-merged-")}
    sources = {name: source for name, source in sources.items() if not name.startswith("bonesoup-merged-balanced/")}
    assert {"bonesoup-merged-soup/1", "bonesoup-merged-soup/2", "bonesoup-merged-backbone-1/1"} <= sources.keys()
    for _ in range(2):
        house.run()
    house.clean(keep=1)
    assert house.soups == ["3"]
    assert sources.keys() <= {reference(version) for version in client.search_model_versions()}
    (verified,) = verify.versions(house.root, "bonesoup", ["bonesoup-merged-soup/1"], objects.cache(house.root))
    assert not verified.damaged
    left = {model.model_id for model in retention.all_models(house.store)}
    assert {mine.model_id, of_run.model_id} <= left


def test_rollback_after_rollback_works_after_a_clean(house):
    for number in (1, 2, 3):
        house.run()
        house.promote(number)
    for _ in range(2):
        house.run()
    house.clean(keep=1)
    assert house.soups == ["1", "2", "3", "5"]
    for expected in ("2", "1"):
        champion.rollback(
            house.store, tracking_uri(house.root), "bonesoup", None, house.root / "var", lambda line: None
        )
        assert str(champion.current(house.store, "bonesoup").version) == expected
        assert house.sound("@champion")


def test_what_was_demoted_can_be_champion_again_after_a_clean(house):
    for number in (1, 2):
        house.run()
        house.promote(number)
    champion.demote(house.store, tracking_uri(house.root), "bonesoup", "harmful", lambda line: None)
    for _ in range(2):
        house.run()
    house.clean(keep=1)
    assert {"2", "4"} <= set(house.soups)
    champion.rollback(house.store, tracking_uri(house.root), "bonesoup", None, house.root / "var", lambda line: None)
    assert str(champion.current(house.store, "bonesoup").version) == "2"
