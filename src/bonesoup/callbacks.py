"""Callbacks for Hugging Face trainers that print short lines for people instead of log dictionaries."""

import time

from transformers import TrainerCallback
from transformers.trainer_callback import PrinterCallback


class StepLines(TrainerCallback):
    """Print 'name step 30/500  loss 1.234  (12 s)' for chosen keys of a trainer's log."""

    def __init__(self, name: str, keys: list[str]):
        self.name = name
        self.keys = keys
        self.started = time.monotonic()

    def on_log(self, args, state, control, logs=None, **kwargs):
        shown = [f"{key} {float(logs[key]):.3f}" for key in self.keys if key in logs]
        if shown:
            seconds = time.monotonic() - self.started
            line = f"{self.name} step {state.global_step}/{state.max_steps}  {'  '.join(shown)}  ({seconds:.0f} s)"
            print(line, flush=True)


def quiet(trainer) -> None:
    """Stop a trainer from printing its log dictionaries."""
    trainer.remove_callback(PrinterCallback)
