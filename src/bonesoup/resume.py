"""Resume a Transformers trainer bit for bit, from the newest whole of its checkpoints, made at an interval of time.

A checkpoint of the trainer holds weights, optimiser, schedule, random states and the place in the data.
"""

import shutil
import time
from pathlib import Path

from transformers import Trainer, TrainerCallback

from bonesoup.files import write_json

# Save once this many seconds have passed since the last time, and writing takes at most this share of the time.
INTERVAL, SHARE = 3.0, 0.03
COMPLETE = "complete.json"


class Due:
    """When to save: after an interval of time, or a longer one if saving takes long."""

    def __init__(self, seconds: float = INTERVAL):
        self.wait, self.shortest = seconds, seconds
        self.last = time.monotonic()

    def now(self) -> bool:
        """Ask whether to save; the caller who is told so does, and calls `saved`."""
        if time.monotonic() - self.last < self.wait:
            return False
        self.last = time.monotonic()
        return True

    def saved(self) -> None:
        """Take note of how long the save took."""
        took = time.monotonic() - self.last
        self.wait = max(self.shortest, took / SHARE)
        self.last += took


class SaveEvery(TrainerCallback):
    """Save a checkpoint whenever it is due, and mark it once it is written to its end."""

    def __init__(self, seconds: float = INTERVAL):
        self.due = Due(seconds)

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step < state.max_steps and self.due.now():
            control.should_save = True

    def on_save(self, args, state, control, **kwargs):
        self.due.saved()
        write_json(Path(args.output_dir) / f"checkpoint-{state.global_step}" / COMPLETE, {"step": state.global_step})


def train(trainer: Trainer, name: str, seconds: float = INTERVAL) -> None:
    """Train to the end, from the newest whole checkpoint in the trainer's output folder if there is one.

    The trainer must keep its own saving off (`save_strategy="no"`); its folder must be named after everything that
    decides the result, and may go once the result is kept.
    """
    folder = Path(trainer.args.output_dir)
    whole = {int(path.parent.name.rpartition("-")[2]): path.parent for path in folder.glob(f"checkpoint-*/{COMPLETE}")}
    for torn in set(folder.glob("checkpoint-*")) - set(whole.values()):
        shutil.rmtree(torn)
    trainer.add_callback(SaveEvery(seconds))
    if whole:
        print(f"{name}: resuming at step {max(whole)} of {trainer.args.max_steps}", flush=True)
    trainer.train(resume_from_checkpoint=str(whole[max(whole)]) if whole else None)
