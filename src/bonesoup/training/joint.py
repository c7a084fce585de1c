"""Run the joint trainer for policies of given rows or goals: resume, stop early, keep what is trained already."""

from collections.abc import Mapping
from pathlib import Path

from bonesoup.files import read_jsonl
from bonesoup.training.goals import Fixed, Goal, Row
from bonesoup.training.learner import newest_step
from bonesoup.training.task import Collapse, Task, check_step
from bonesoup.training.trainer import JointTrainer


def train_policies(
    task: Task, rows: Mapping[str, Row], scratch: Mapping[str, Path], until: int | None = None
) -> dict[str, Path | Collapse]:
    """Train the policies of `rows` {name: weight row} together, each from its checkpoint in `scratch`.

    A policy that collapses stops; the others continue.

    Args:
        until: end after this step of the full schedule. A later call without it continues there, with the same
            result as a run that never stopped.

    Returns:
        For each policy the folder in scratch with its adapter and steps.jsonl, or the reason for its collapse.

    Raises:
        ValueError: a reward that is not finite, or too few prompts for one step.
    """
    last = until or task.rl.steps
    folders = {name: _folder(scratch[name], until) for name in rows}
    done = {name: adapter for name, folder in folders.items() if (adapter := _adapter(folder, until)).is_dir()}
    results = {name: _still_within_limits(task, name, adapter) for name, adapter in done.items()}
    wanted = {name: (Fixed(list(row)), folders[name]) for name, row in rows.items() if name not in done}
    if not wanted:
        return results
    trainer = JointTrainer(task, wanted)
    trainer.train(last)
    for learner in trainer.learners:
        results[learner.name] = learner.collapsed or _adapter(learner.scratch, until)
        if not learner.collapsed:
            # Keep the checkpoint that a full run continues from.
            learner.finish(
                [results[learner.name]],
                trainer.stack.config,
                keep=learner.scratch == scratch[learner.name] and bool(until),
            )
    return results


def train_policy(task: Task, name: str, row: Row, scratch: Path) -> Path:
    """Train one policy; see `train_policies`.

    Raises:
        Collapse: KL above its limit, entropy below its limit.
        ValueError: a reward that is not finite, or too few prompts for one step.
    """
    result = train_policies(task, {name: row}, {name: scratch})[name]
    if isinstance(result, Collapse):
        raise result
    return result


def train_goal(task: Task, name: str, goal: Goal, scratch: Path) -> list[Path]:
    """Train all adapters of a goal in one schedule, from the newest checkpoint in `scratch`.

    Returns:
        A folder in scratch for each adapter, with steps.jsonl.

    Raises:
        Collapse: KL above its limit, entropy below its limit.
        ValueError: a reward that is not finite, or too few prompts for one step.
    """
    adapters = [scratch / f"adapter-{k}" for k in range(1, goal.adapters + 1)]
    if not all(adapter.is_dir() for adapter in adapters):
        trainer = JointTrainer(task, {name: (goal, scratch)})
        trainer.train(task.rl.steps)
        (learner,) = trainer.learners
        if learner.collapsed:
            raise learner.collapsed
        learner.finish(adapters, trainer.stack.config, keep=False)
    elif isinstance(reason := _still_within_limits(task, name, adapters[0]), Collapse):
        raise reason
    return adapters


def _folder(scratch: Path, until: int | None) -> Path:
    """Choose where a policy's state lies: a step that the full run has left behind is trained again in a folder
    within."""
    past = until and ((scratch / "adapter").is_dir() or newest_step(scratch) > until)
    return scratch / "short" if past and not _adapter(scratch, until).is_dir() else scratch


def _adapter(scratch: Path, until: int | None) -> Path:
    return scratch / (f"adapter-{until}" if until else "adapter")


def _still_within_limits(task: Task, name: str, adapter: Path) -> Path | Collapse:
    """Check the log of a policy that is trained already: the limits may be tighter by now."""
    try:
        for step in read_jsonl(adapter / "steps.jsonl"):
            check_step(name, step, task.rl.limits)
    except Collapse as collapse:
        return collapse
    return adapter
