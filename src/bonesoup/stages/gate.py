"""gate@data, gate@reward: judge what a stage measured by a threshold.

A gate is a separate stage, so that the measurement survives a failure and a changed threshold re-runs only the gate.
"""

from bonesoup.files import read_json, write_json
from bonesoup.paths import DATA, GATES, REWARDS, SUMMARY
from bonesoup.settings import schema
from bonesoup.settings.schema import Settings


def run(settings: Settings, key: str) -> None:
    if key == "data":
        faults, warnings = judge_data(read_json(SUMMARY), settings.gates.data), []
    else:
        # Not by listing the folder: the reward of an objective no longer used stays on disk.
        measured = [read_json(REWARDS / name / "reward.json") for name in settings.objectives]
        faults, warnings = judge_rewards(measured, settings.gates.reward)
    for warning in warnings:
        print(f"gate@{key}: warning: {warning}")
    if faults:
        raise ValueError(f"gate@{key} failed:\n" + "\n".join(f"  - {fault}" for fault in faults))
    write_json(GATES / f"{key}.json", {"passed": True, "warnings": warnings})
    print(f"gate@{key}: passed")


def judge_data(summary: dict, gate: schema.DataGate) -> list[str]:
    """List the faults of the prepared data: too much quarantined, or an expectation that failed."""
    faults = []
    if summary["share_quarantined"] > gate.max_quarantined:
        rows = "\n".join(
            f"      {row['file']} line {row['line']}: {row['reason']}" for row in summary["first_quarantined"]
        )
        faults.append(
            f"{summary['rows_quarantined']} of {summary['rows_read']} rows are quarantined "
            f"({summary['share_quarantined']:.2%}, gates.data.max_quarantined is {gate.max_quarantined:.2%}); "
            f"the first:\n{rows}\n      all of them: {DATA / 'quarantine.jsonl'}"
        )
    faults += [
        f"{item['table']}: {item['expectation']}: {item['detail']}" for item in summary["expectations"]["failed"]
    ]
    return faults


def judge_rewards(rewards: list[dict], gate: schema.RewardGate) -> tuple[list[str], list[str]]:
    """Return (faults, warnings) on the learned rewards' held-out accuracy."""
    low = [
        f"reward {reward['objective']}: held-out accuracy {reward['accuracy']:.3f} "
        f"[{reward['accuracy_low']:.3f}, {reward['accuracy_high']:.3f}] on {reward['n']} is below "
        f"gates.reward.min_accuracy = {gate.min_accuracy}"
        for reward in rewards
        if "accuracy" in reward and reward["accuracy"] < gate.min_accuracy
    ]
    return (low, []) if gate.on_failure == "fail" else ([], low)
