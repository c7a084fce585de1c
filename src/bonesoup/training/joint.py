"""Run the joint trainer for policies of given rows or goals: resume, stop early, keep what is trained already."""

from collections.abc import Mapping
from pathlib import Path

from bonesoup.training.goals import Fixed, Goal, Row
from bonesoup.training.learner import newest_step
from bonesoup.training.scratch import adapter_folder, state_folder
from bonesoup.training.task import Collapse, Task, check_log
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
    folders = {name: state_folder(scratch[name], until, newest_step(scratch[name])) for name in rows}
    results: dict[str, Path | Collapse] = {}
    for name, folder in folders.items():
        if (adapter := adapter_folder(folder, until)).is_dir():
            try:
                check_log(name, adapter, task.rl.limits)
                results[name] = adapter
            except Collapse as collapse:
                results[name] = collapse
    wanted = {name: (Fixed(list(row)), folders[name]) for name, row in rows.items() if name not in results}
    if not wanted:
        return results
    trainer = JointTrainer(task, wanted)
    trainer.train(last)
    for learner in trainer.learners:
        done = adapter_folder(learner.scratch, until)
        results[learner.name] = learner.collapsed or done
        if not learner.collapsed:
            # Keep the checkpoint that a full run continues from.
            keep = bool(until) and learner.scratch == scratch[learner.name]
            learner.finish([done], trainer.stack.config, keep)
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
    else:
        check_log(name, adapters[0], task.rl.limits)
    return adapters
