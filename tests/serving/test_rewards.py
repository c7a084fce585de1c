"""Answers are scored by the run's own rewards, where the run is served from its own folder."""

import math

import numpy as np
import pytest
from soup_server import make_project

from bonesoup.serving.source import from_folder


@pytest.fixture
def project(tmp_path):
    return make_project(tmp_path / "project", ["helpful", "harmless"])


def test_the_runs_rewards_score_answers_on_the_scale_of_its_front(project, monkeypatch):
    monkeypatch.chdir(project)
    rewards = from_folder(project).rewards
    scores = rewards.score([{"role": "user", "content": "any prompt at all"}], ["one two three", ""])
    expected = np.array([[-math.log(4), -math.log(4) / 2], [0, 0]])
    assert scores.keys() == {"reward"}
    np.testing.assert_allclose(scores["reward"], expected)


def test_a_run_that_is_not_here_or_has_lost_a_reward_scores_nothing(project, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert from_folder(project).rewards is None
    monkeypatch.chdir(project)
    (project / "out/rewards/harmless/reward.json").unlink()
    assert from_folder(project).rewards is None
