"""Resume a Transformers trainer bit for bit from its newest complete checkpoint.

A checkpoint holds weights, optimiser, schedule, random states and the position in the data. Checkpoints are written at
an interval of time, not of steps.
"""

import shutil
import time
from pathlib import Path
from typing import Any, Protocol

from transformers import Trainer, TrainerCallback

from bonesoup.files import write_json

# Save at most once in this many seconds, and so seldom that writing takes at most this share of the time.
INTERVAL, SHARE = 3.0, 0.03
COMPLETE = "complete.json"


class Fit(Protocol):
    """The settings of a supervised training."""

    steps: int
    batch: int
    learning_rate: float


def arguments(fit: Fit, folder: Path, seed: int, device: str) -> dict[str, Any]:
    """Return arguments of a Transformers trainer that `train` can resume, with warm-up and cosine decay."""
    return {
        "output_dir": str(folder),
        "max_steps": fit.steps,
        "per_device_train_batch_size": fit.batch,
        "learning_rate": fit.learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": max(1, fit.steps // 20),
        "weight_decay": 0.0,
        "seed": seed,
        "logging_steps": max(1, fit.steps // 10),
        # `train` saves checkpoints, at an interval of time.
        "save_strategy": "no",
        "save_total_limit": 2,
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": device == "cpu",
        "bf16": device == "cuda",
        "gradient_checkpointing": False,
        "dataloader_pin_memory": False,
    }


class Due:
    """Decide when to save: after an interval of time, or a longer one if saving takes long."""

    def __init__(self, seconds: float = INTERVAL):
        self.wait, self.shortest = seconds, seconds
        self.last = time.monotonic()

    def now(self) -> bool:
        """Return True if it is time to save; the caller then saves and calls `saved`."""
        if time.monotonic() - self.last < self.wait:
            return False
        self.last = time.monotonic()
        return True

    def saved(self) -> None:
        """Measure how long the save took, and lengthen the interval if it was long."""
        took = time.monotonic() - self.last
        self.wait = max(self.shortest, took / SHARE)
        self.last += took


class SaveEvery(TrainerCallback):
    """Save a checkpoint whenever one is due, and mark it complete once it is written."""

    def __init__(self, seconds: float = INTERVAL):
        self.due = Due(seconds)

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step < state.max_steps and self.due.now():
            control.should_save = True

    def on_save(self, args, state, control, **kwargs):
        self.due.saved()
        write_json(Path(args.output_dir) / f"checkpoint-{state.global_step}" / COMPLETE, {"step": state.global_step})


def train(trainer: Trainer, name: str, seconds: float = INTERVAL) -> None:
    """Train to the end, from the newest complete checkpoint in the trainer's output folder if there is one.

    The trainer must have the `arguments` above; the name of its folder must identify everything that affects the
    result, and the folder may be deleted once the result is stored.
    """
    folder = Path(trainer.args.output_dir)
    whole = {int(path.parent.name.rpartition("-")[2]): path.parent for path in folder.glob(f"checkpoint-*/{COMPLETE}")}
    for torn in set(folder.glob("checkpoint-*")) - set(whole.values()):
        shutil.rmtree(torn)
    trainer.add_callback(SaveEvery(seconds))
    if whole:
        print(f"{name}: resuming at step {max(whole)} of {trainer.args.max_steps}", flush=True)
    trainer.train(resume_from_checkpoint=str(whole[max(whole)]) if whole else None)
