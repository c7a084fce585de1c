"""A task for training tiny policies: two computed rewards and a few steps."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from bonesoup.rewards.normalise import Normaliser
from bonesoup.rewards.score import Reward
from bonesoup.settings import schema
from bonesoup.training.task import Judge, Task

ROW = [0.7, 0.3]
# Reward functions with the error they must give.
BROKEN = [
    (lambda p, r: [float("nan")] * len(r), "score of row 0 is nan"),
    (lambda p, r: [0.0], r"returned shape \(1,\) for 8 responses"),
]


def count(word: str):
    return lambda prompts, responses: [float(response.split().count(word)) for response in responses]


def make_task(base: Path, texts: list, hardware: dict | None = None, **changes) -> Task:
    settings = {
        "steps": 6,
        "prompts": 2,
        "generations": 4,
        "micro_batch": 8,
        "learning_rate": 0.01,
        "warmup_steps": 1,
        "max_grad_norm": 1.0,
        "kl": 0.05,
        "checkpoint_every": 2,
        "lora": {"rank": 2, "alpha": 4},
        "limits": {"kl": 1000, "entropy": 0.0},
    }
    return Task(
        base=base,
        prompts=texts,
        rewards=[Reward("flour", count("flour.")), Reward("yes", count("yes"))],
        normaliser=Normaliser(np.array([0.1, 0.2]), np.array([0.5, 2.0])),
        rl=schema.Rl(**(settings | changes)),
        generation=schema.Generation(temperature=1.0, max_new_tokens=8),
        hardware=schema.Hardware(**hardware or {}),
        seed=3,
        device="cpu",
    )


def judged(task: Task, seen: list) -> Task:
    """Give the objective `yes` a judge that counts "no" and notes in `seen` the (prompts, responses) it scores."""
    reward = Reward(
        "yes", lambda prompts, responses: seen.append((prompts, responses)) or count("no")(prompts, responses)
    )
    return replace(task, judges={"yes": Judge(reward, 0.5, 2.0)})
