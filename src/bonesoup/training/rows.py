"""A weight row to its adapter, trained once: what decides an adapter is its fingerprint, and names its scratch."""

import shutil
from pathlib import Path

import numpy as np

from bonesoup.files import digest, file_digest, read_json, read_jsonl, write_json
from bonesoup.paths import NORMALISER, PROMPTS, REWARDS, SFT
from bonesoup.rewards.normalise import Normaliser
from bonesoup.rewards.score import load_rewards
from bonesoup.settings.schema import Settings
from bonesoup.training.launch import launch
from bonesoup.training.rloo import Task, train_policy
from bonesoup.training.scratch import programs, scratch


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


def inputs(settings: Settings, module: str = __name__) -> list:
    """Everything but the row that decides what an adapter is, code and libraries included.

    Args:
        module: trains the policies.

    Limits and checkpoints decide whether a run gets to its end, not what is there.
    """
    return [
        settings.rl.model_dump(exclude={"limits", "checkpoint_every"}),
        settings.generation.model_dump(),
        settings.hardware.model_dump(),
        file_digest(Path(settings.hardware.accelerate)) if settings.hardware.accelerate else None,
        [settings.seed, settings.threads, settings.device],
        *programs(module),
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
        # Another group may be training the same row right now; it trains, this one takes the result.
        with scratch(fingerprint) as own:
            known = (own / "adapter").is_dir()
            adapter = launch(file, slot, row, own, until) if file else train_policy(common, slot, row, own, until)
        if known and not until:
            print(f"{slot}: row {row} is trained already, taking its adapter", flush=True)
        shutil.copytree(adapter, folder / slot)
        facts = {"slot": slot, "group": group, "row": row, "objectives": settings.objectives}
        facts |= {"seed": settings.seed, "steps": until or settings.rl.steps, "fingerprint": fingerprint}
        write_json(folder / slot / "policy.json", facts)
