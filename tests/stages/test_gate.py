"""Gates judge by threshold, and show the values they judged."""

import pytest

from bonesoup.settings.schema import DataGate, RewardGate
from bonesoup.stages.gate import judge_data, judge_rewards

ROW = {"file": "pairs.jsonl", "line": 17, "reason": "not JSON", "excerpt": "{"}
CLEAN = {
    "rows_read": 200,
    "rows_quarantined": 2,
    "share_quarantined": 0.01,
    "first_quarantined": [ROW],
    "expectations": {"checked": 9, "failed": []},
}
REWARD = {"objective": "humor", "accuracy": 0.61, "accuracy_low": 0.55, "accuracy_high": 0.67, "n": 300}


def test_a_share_at_the_limit_passes_and_above_fails():
    assert judge_data(CLEAN, DataGate(max_quarantined=0.01)) == []
    (fault,) = judge_data(CLEAN, DataGate(max_quarantined=0.009))
    assert "2 of 200 rows are quarantined (1.00%" in fault
    assert "pairs.jsonl line 17: not JSON" in fault


def test_a_failed_expectation_fails_whatever_the_share():
    failed = [{"table": "prompts", "expectation": "split leakage", "detail": "3 prompts in two splits"}]
    faults = judge_data(CLEAN | {"expectations": {"checked": 9, "failed": failed}}, DataGate(max_quarantined=1))
    assert faults == ["prompts: split leakage: 3 prompts in two splits"]


@pytest.mark.parametrize("on_failure", ["warn", "fail"])
def test_a_weak_reward_warns_or_fails(on_failure):
    gate = RewardGate(min_accuracy=0.7, on_failure=on_failure)
    faults, warnings = judge_rewards([REWARD, {"objective": "brevity", "kind": "function"}], gate)
    (message,) = faults if on_failure == "fail" else warnings
    assert "reward humor: held-out accuracy 0.610 [0.550, 0.670] on 300 is below" in message
    assert not (warnings if on_failure == "fail" else faults)
