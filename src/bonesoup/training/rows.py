"""A weight row to its adapter, trained once: what decides an adapter is its fingerprint, and names its scratch."""

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import numpy as np

from bonesoup.config import Settings
from bonesoup.files import digest, file_digest, read_json, read_jsonl, write_json
from bonesoup.locks import exclusive
from bonesoup.paths import NORMALISER, PROMPTS, REWARDS, SCRATCH, SFT
from bonesoup.rewards.normalise import Normaliser
from bonesoup.rewards.score import load_rewards
from bonesoup.training.launch import launch
from bonesoup.training.rloo import Task, train_policy

CODE = (
    __name__,
    "bonesoup.chat",
    "bonesoup.rewards.normalise",
    "bonesoup.rewards.score",
    "bonesoup.training.launch",
    "bonesoup.training.rloo",
    "bonesoup.training.sft",
    "bonesoup.weights.pretrained",
)


def task(settings: Settings) -> Task:
    """What all policies of a run share, read from the stages before."""
    scale = read_json(NORMALISER)
    return Task(
        base=SFT,
        prompts=[row["prompt"] for row in read_jsonl(PROMPTS) if row["split"] == "train"],
        rewards=load_rewards([REWARDS / name for name in settings.objectives], settings.device),
        normaliser=Normaliser(np.array(scale["mean"]), np.array(scale["std"])),
        rl=settings.rl,
        generation=settings.generation,
        hardware=settings.hardware,
        seed=settings.seed,
        device=settings.device,
    )


def inputs(settings: Settings) -> list:
    """Everything but the row that decides what an adapter is, code and libraries included.

    Limits and checkpoints decide whether a run gets to its end, not what is there.
    """
    return [
        settings.rl.model_dump(exclude={"limits", "checkpoint_every"}),
        settings.generation.model_dump(),
        settings.hardware.model_dump(),
        file_digest(Path(settings.hardware.accelerate)) if settings.hardware.accelerate else None,
        [settings.seed, settings.threads, settings.device],
        [version(package) for package in ("torch", "transformers", "trl", "peft", "accelerate")],
        [file_digest(sys.modules[name].__file__) for name in CODE],
        [file_digest(SFT), file_digest(NORMALISER), file_digest(PROMPTS)],
        [file_digest(REWARDS / name) for name in settings.objectives],
    ]


def train_rows(
    settings: Settings, group: str, slots: dict[str, list[float]], folder: Path, until: int | None = None
) -> None:
    """Train the policies of `slots` {slot: row [objective]} one after another, each into folder/<slot>.

    Args:
        group: named in policy.json.
        until: stop after this step of the full schedule; a later call without it goes on from there.
    """
    shared, file = inputs(settings), settings.hardware.accelerate
    common = None if file else task(settings)
    for slot, row in slots.items():
        fingerprint = digest(row, shared)
        with _scratch(fingerprint) as scratch:
            known = (scratch / "adapter").is_dir()
            if file:
                adapter = launch(file, slot, row, scratch, until)
            else:
                adapter = train_policy(common, slot, row, scratch, until)
        if known and not until:
            print(f"{slot}: row {row} is trained already, taking its adapter", flush=True)
        shutil.copytree(adapter, folder / slot)
        facts = {"slot": slot, "group": group, "row": row, "objectives": settings.objectives}
        facts |= {"seed": settings.seed, "steps": until or settings.rl.steps, "fingerprint": fingerprint}
        write_json(folder / slot / "policy.json", facts)


@contextmanager
def _scratch(fingerprint: str) -> Iterator[Path]:
    scratch = SCRATCH / "policies" / fingerprint
    # Another group may be training the same row right now; it trains, this one takes the result.
    with exclusive(scratch.with_suffix(".lock"), wait=float("inf")):
        scratch.mkdir(parents=True, exist_ok=True)
        yield scratch
