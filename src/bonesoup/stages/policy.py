"""policy@GROUP: train the policies of a group, one after another in this process; each row is trained once."""

import shutil
import sys
from importlib.metadata import version

import numpy as np

from bonesoup.config import Settings
from bonesoup.files import appearing, digest, file_digest, read_json, read_jsonl, write_json
from bonesoup.locks import exclusive
from bonesoup.paths import NORMALISER, POLICIES, PROMPTS, REWARDS, ROWS, SCRATCH, SFT
from bonesoup.rewards.normalise import Normaliser
from bonesoup.rewards.score import load_rewards
from bonesoup.training.rloo import Task, train_policy

CODE = (
    __name__,
    "bonesoup.chat",
    "bonesoup.rewards.normalise",
    "bonesoup.rewards.score",
    "bonesoup.training.rloo",
    "bonesoup.training.sft",
    "bonesoup.weights.pretrained",
)


def run(settings: Settings, key: str) -> None:
    slots = read_json(ROWS / f"{key}.json")["slots"]
    scale = read_json(NORMALISER)
    task = Task(
        base=SFT,
        prompts=[row["prompt"] for row in read_jsonl(PROMPTS) if row["split"] == "train"],
        rewards=load_rewards([REWARDS / name for name in settings.objectives], settings.device),
        normaliser=Normaliser(np.array(scale["mean"]), np.array(scale["std"])),
        rl=settings.rl,
        generation=settings.generation,
        seed=settings.seed,
        device=settings.device,
    )
    shared = _inputs(settings)
    with appearing(POLICIES / key) as folder:
        for slot, row in slots.items():
            fingerprint = digest(row, shared)
            scratch = SCRATCH / "policies" / fingerprint
            # Another group may be training the same row right now; it trains, this one takes the result.
            with exclusive(scratch.with_suffix(".lock"), wait=float("inf")):
                known = (scratch / "adapter").is_dir()
                scratch.mkdir(parents=True, exist_ok=True)
                adapter = train_policy(task, slot, row, scratch)
            if known:
                print(f"{slot}: row {row} is trained already, taking its adapter", flush=True)
            shutil.copytree(adapter, folder / slot)
            facts = {"slot": slot, "group": key, "row": row, "objectives": settings.objectives}
            facts |= {"seed": settings.seed, "steps": settings.rl.steps, "fingerprint": fingerprint}
            write_json(folder / slot / "policy.json", facts)


def _inputs(settings: Settings) -> list:
    """Everything but the row that decides what an adapter is, code and libraries included.

    Limits and checkpoints decide whether a run gets to its end, not what is there.
    """
    return [
        settings.rl.model_dump(exclude={"limits", "checkpoint_every"}),
        settings.generation.model_dump(),
        [settings.seed, settings.threads, settings.device],
        [version(package) for package in ("torch", "transformers", "trl", "peft", "accelerate")],
        [file_digest(sys.modules[name].__file__) for name in CODE],
        [file_digest(SFT), file_digest(NORMALISER), file_digest(PROMPTS)],
        [file_digest(REWARDS / name) for name in settings.objectives],
    ]
