"""Scoring a registered version from its own files reproduces the pipeline's numbers bit for bit."""

import json

import mlflow
import pandas as pd
import pytest

from bonesoup.promotion import sampling
from bonesoup.registry import yardstick
from bonesoup.registry.store import connect
from bonesoup.registry.versions import find

pytestmark = pytest.mark.slow


def test_a_version_is_scored_as_its_run_was_evaluated(project, tmp_path, monkeypatch):
    assert project.run("bonesoup", "register").status == 0
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    before = mlflow.get_tracking_uri()
    store = connect(project.folder, "bonesoup")
    try:
        measure = yardstick.load(store, "bonesoup", tmp_path)
        recipes = sampling.read_recipes(find(store.client, "1", "bonesoup-soup"), tmp_path)
        for method in ("bone", "rewarded", "sft"):
            front = sampling.run(recipes[method], measure, "cpu", 256)
            measured = pd.read_parquet(project.folder / f"out/fronts/{method}/samples.parquet")
            pd.testing.assert_frame_equal(front, measured, check_exact=True)
    finally:
        mlflow.set_tracking_uri(before)


def test_commands_work_on_a_finished_run(project):
    assert project.run("bonesoup", "register").status == 0
    decision = project.run("bonesoup", "promote", "--force", "--reason", "six steps are no training")
    assert decision.status == 0, decision.output
    assert "bonesoup-soup/1 promoted, judged against the Rewarded Soup of bonesoup-soup/1, by force." in decision.output
    listed = project.run("bonesoup", "models")
    assert "champion" in listed.output
    assert max(map(len, listed.output.splitlines())) <= 120
    (project.folder / "new.txt").write_text("Please explain baking\nWho are you?\n")
    scored = project.run("bonesoup", "evaluate", "--prompts", "new.txt", "bonesoup-merged-balanced/1", "--json")
    assert scored.status == 0, scored.output
    result = json.loads(scored.output[scored.output.index("{") :])
    assert result["gold_left_out"].startswith("line 2: ")
