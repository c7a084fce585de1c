"""One policy of a joint training: its adapters, optimiser, schedule, log, limits and checkpoints."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from peft import LoraConfig
from safetensors.torch import save_file

from bonesoup.files import appearing, write_jsonl
from bonesoup.progress import Throttle
from bonesoup.training.goals import Goal
from bonesoup.training.stack import Factors
from bonesoup.training.task import Collapse, Task, check_step, step_line
from bonesoup.weights.lora import settle_config


class Learner:
    """The state of one policy between steps.

    Attributes:
        steps: the log, one entry a step.
        collapsed: reason why training ended early, if it did.
    """

    def __init__(self, task: Task, name: str, goal: Goal, scratch: Path, adapters: Sequence[Factors]):
        self.name, self.goal, self.scratch = name, goal, scratch
        self._task, self._adapters = task, adapters
        # AdamW with the settings of Transformers for TRL; the learning rate is set before each step.
        self._optimiser = torch.optim.AdamW(self.parameters, lr=0.0, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
        self.steps: list[dict[str, float]] = []
        self.collapsed: Collapse | None = None
        self._throttle = Throttle()

    @property
    def parameters(self) -> list[torch.nn.Parameter]:
        return [factor for factors in self._adapters for pair in factors.values() for factor in pair]

    @property
    def step(self) -> int:
        """Return the number of steps made."""
        return len(self.steps)

    def resume(self, until: int) -> None:
        """Take the newest checkpoint up to the step `until`, and the log as it was then."""
        self.scratch.mkdir(parents=True, exist_ok=True)
        if step := newest_step(self.scratch, until):
            state = torch.load(self._checkpoint(step), weights_only=True)
            with torch.no_grad():
                for parameter, value in zip(self.parameters, state["factors"], strict=True):
                    parameter.copy_(value)
            self._optimiser.load_state_dict(state["optimiser"])
            self.steps = state["steps"]
            print(f"{self.name}: resuming at step {self.step} of {until}", flush=True)
        write_jsonl(self.scratch / "steps.jsonl", self.steps)
        for step in self.steps:
            self._check(step)

    def update(self, facts: dict[str, float]) -> None:
        """Make a step with the gradients that are there, log it with `facts`, and check the limits."""
        rl = self._task.rl
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, rl.max_grad_norm)
        for group in self._optimiser.param_groups:
            group["lr"] = rl.learning_rate * schedule(self.step, rl.warmup_steps, rl.steps)
        self._optimiser.step()
        self._optimiser.zero_grad()
        step = {"step": self.step + 1} | facts | {"grad_norm": float(norm)}
        self.steps.append(step)
        with open(self.scratch / "steps.jsonl", "a") as out:
            out.write(json.dumps(step) + "\n")
        if self.step == rl.steps or self._throttle.ready():
            print(step_line(self.name, step, rl.steps, self._task.rewards), flush=True)
        self._check(step)

    def save(self) -> None:
        """Write a checkpoint of this step in place of older ones."""
        state = {
            "factors": [parameter.detach() for parameter in self.parameters],
            "optimiser": self._optimiser.state_dict(),
            "steps": self.steps,
        }
        path = self._checkpoint(self.step)
        with appearing(path) as temporary:
            torch.save(state, temporary)
        self._forget(path)

    def finish(self, folders: Sequence[Path], config: LoraConfig, keep: bool) -> None:
        """Save each adapter as PEFT does, with steps.jsonl, to its folder.

        Args:
            keep: leave the checkpoint for a run that continues.
        """
        for folder, factors in zip(folders, self._adapters, strict=True):
            with appearing(folder) as temporary:
                save_adapter(temporary, config, factors)
                write_jsonl(temporary / "steps.jsonl", self.steps)
        if not keep:
            self._forget()

    def _checkpoint(self, step: int) -> Path:
        return self.scratch / f"checkpoint-{step}.pt"

    def _forget(self, but: Path | None = None) -> None:
        """Remove all checkpoints, or all but one."""
        for old in self.scratch.glob("checkpoint-*.pt"):
            if old != but:
                old.unlink()

    def _check(self, step: dict[str, float]) -> None:
        try:
            check_step(self.name, step, self._task.rl.limits)
        except Collapse as collapse:
            self.collapsed = collapse


def save_adapter(folder: Path, config: LoraConfig, factors: Factors) -> None:
    """Write an adapter as PEFT does."""
    folder.mkdir(parents=True)
    config.save_pretrained(folder)
    settle_config(folder, inference_mode=True)
    tensors = {
        f"base_model.model.{module}.lora_{factor}.weight": value.detach().cpu().contiguous()
        for module, pair in factors.items()
        for factor, value in zip("AB", pair, strict=True)
    }
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})


def schedule(step: int, warmup: int, steps: int) -> float:
    """Return the factor of the learning rate at a step counted from 0: linear up from 0, then linear down to 0.

    Source: Transformers' linear schedule with warm-up.
    """
    return step / warmup if step < warmup else (steps - step) / (steps - warmup)


def newest_step(scratch: Path, until: float = float("inf")) -> int:
    """Return the step of the newest checkpoint up to `until`; 0 if there is none."""
    steps = [int(path.stem.removeprefix("checkpoint-")) for path in scratch.glob("checkpoint-*.pt")]
    return max((step for step in steps if step <= until), default=0)
