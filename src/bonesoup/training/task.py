"""The parts that all policies of a run share, and the limits that a training step must respect."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bonesoup.files import read_json, read_jsonl
from bonesoup.paths import NORMALISER, PROMPTS, REWARDS, SFT
from bonesoup.rewards.normalise import Normaliser
from bonesoup.rewards.score import Messages, Reward, judge_folders, load_rewards
from bonesoup.settings import schema


class Collapse(RuntimeError):
    """Training left the region in which its result could be of use."""


@dataclass(frozen=True)
class Judge:
    """A score of an objective that no policy is trained against; the log shows it next to the reward.

    Attributes:
        mean, std: over responses of the SFT policy, in raw units.
    """

    reward: Reward
    mean: float
    std: float

    def mean_score(self, prompts: list[Messages], responses: list[str]) -> float:
        """Return the mean score of responses, in SFT standard deviations."""
        return float((self.reward.score(prompts, responses).mean() - self.mean) / self.std)


@dataclass(frozen=True)
class Task:
    """The inputs that all policies of a run share.

    Attributes:
        base: folder of the SFT policy, start and reference of every policy.
        prompts: training prompts in the order in which they are rolled out, common to all rows.
        rewards: one per objective, in the order of a row.
        judges: by objective, for those that have one. They are logged and enter no update.
    """

    base: Path
    prompts: list[Messages]
    rewards: list[Reward]
    normaliser: Normaliser
    rl: schema.Rl
    generation: schema.Generation
    hardware: schema.Hardware
    seed: int
    device: str
    judges: Mapping[str, Judge] = field(default_factory=dict)


def task(settings: schema.Settings) -> Task:
    """Read what all policies of a run share from the stages before."""
    names = settings.objectives
    folders = [REWARDS / name for name in names]
    # A computed reward is its own judge.
    judges = [folder for folder in judge_folders(folders) or [] if folder not in folders]
    # Loaded together: a reward head and its judge share the base, and its features of a batch.
    loaded = load_rewards([*folders, *judges], settings.device)
    return Task(
        base=SFT,
        prompts=[row["prompt"] for row in read_jsonl(PROMPTS) if row["split"] == "train"],
        rewards=loaded[: len(names)],
        normaliser=Normaliser.read(NORMALISER),
        rl=settings.rl,
        generation=settings.generation,
        hardware=settings.hardware,
        seed=settings.seed,
        device=settings.device,
        judges=_judges(loaded[len(names) :], names),
    )


def _judges(rewards: list[Reward], names: list[str]) -> dict[str, Judge]:
    """Give judges their scale, which the stage `normalise` wrote for all objectives `names`."""
    if not rewards:
        return {}
    scale = read_json(NORMALISER)["judge"]
    moments = dict(zip(names, zip(scale["mean"], scale["std"], strict=True), strict=True))
    return {reward.objective: Judge(reward, *moments[reward.objective]) for reward in rewards}


def check_prompts(task: Task, name: str) -> None:
    """Refuse a task whose prompts do not fill one step.

    Raises:
        ValueError: there are too few prompts; names the policy and both numbers.
    """
    if len(task.prompts) < task.rl.prompts:
        raise ValueError(
            f"{name}: {len(task.prompts)} training prompts cannot fill a step of rl.prompts = {task.rl.prompts}"
        )


def check_step(name: str, step: dict[str, float], limits: schema.Limits) -> None:
    """Check one line of a policy's log against the limits.

    Raises:
        Collapse: a value is not finite, KL is above its limit, or entropy is below its limit.
    """
    where = f"{name} collapsed at step {step['step']}"
    if not all(np.isfinite(value) for value in step.values()):
        raise Collapse(f"{where}: its log holds a value that is not finite: {step}")
    if step["kl"] > limits.kl:
        raise Collapse(
            f"{where}: KL to the SFT policy is {step['kl']:.1f} nats per response, above rl.limits.kl = "
            f"{limits.kl:g}; raise rl.kl or lower rl.learning_rate"
        )
    if step["entropy"] < limits.entropy:
        raise Collapse(
            f"{where}: token entropy is {step['entropy']:.4f} nats, below rl.limits.entropy = "
            f"{limits.entropy:g}; raise rl.kl or lower rl.learning_rate"
        )


def check_log(name: str, adapter: Path, limits: schema.Limits) -> None:
    """Check the log of a policy that is trained already, as the limits may be tighter now; raises as `check_step`."""
    for step in read_jsonl(adapter / "steps.jsonl"):
        check_step(name, step, limits)


def step_line(name: str, step: dict[str, float], of: int, rewards: list[Reward]) -> str:
    """Format a line of the log for a person to watch."""
    means = "  ".join(f"{r.objective} {step[f'reward/{r.objective}']:+.2f}" for r in rewards)
    return (
        f"{name} step {step['step']}/{of}  {means}  KL {step['kl']:.2f}  "
        f"entropy {step['entropy']:.2f}  length {step['length']:.1f}"
    )
