"""Resume a Transformers trainer bit for bit, from the newest whole of its checkpoints, made at an interval of time.

A checkpoint of the trainer holds weights, optimiser, schedule, random states and the place in the data.
"""

import shutil
import time
from pathlib import Path

from transformers import Trainer, TrainerCallback

from bonesoup.files import write_json

INTERVAL = 30.0  # seconds: little work is lost, and little time goes into writing
COMPLETE = "complete.json"


class SaveEvery(TrainerCallback):
    """Save a checkpoint whenever `seconds` have passed, and mark it once it is written to its end."""

    def __init__(self, seconds: float = INTERVAL):
        self.seconds = seconds
        self.last = time.monotonic()

    def on_step_end(self, args, state, control, **kwargs):
        if time.monotonic() - self.last >= self.seconds and state.global_step < state.max_steps:
            control.should_save = True

    def on_save(self, args, state, control, **kwargs):
        self.last = time.monotonic()
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
