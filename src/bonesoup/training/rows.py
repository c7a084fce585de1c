"""Train each weight row once. A fingerprint of everything that affects the adapter names its scratch folder."""

import shutil
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from bonesoup.files import digest, file_digest, read_json, read_jsonl, write_json
from bonesoup.paths import NORMALISER, PROMPTS, REWARDS, SFT
from bonesoup.rewards.normalise import Normaliser
from bonesoup.rewards.score import load_rewards
from bonesoup.settings.schema import Settings
from bonesoup.training import rloo
from bonesoup.training.joint import train_policies
from bonesoup.training.launch import launch
from bonesoup.training.scratch import programs, scratch
from bonesoup.training.task import Collapse, Task


def task(settings: Settings) -> Task:
    """Read what all policies of a run share from the stages before."""
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
    """List everything but the row that decides what an adapter is, code and libraries included.

    Limits and checkpoints decide whether a run reaches its end, not what it produces.

    Args:
        module: trains the policies.
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
    """Train the policies of `slots` {slot: row [objective]}, each into folder/<slot>.

    On one device all of them train together. Under accelerate, or with rollouts by vLLM, TRL trains one after another.

    Args:
        group: named in policy.json.
        until: stop after this step of the full schedule; a later call without it goes on from there.

    Raises:
        Collapse: naming every policy that collapsed, once the others are trained.
    """
    shared, hardware = inputs(settings), settings.hardware
    common = None if hardware.accelerate else task(settings)
    waiting = {digest(row, shared): row for row in slots.values()}
    collapsed: list[Collapse] = []

    def copy(fingerprint: str, row: list[float], adapter: Path) -> None:
        for slot in (slot for slot, other in slots.items() if other == row):
            shutil.copytree(adapter, folder / slot)
            facts = {"slot": slot, "group": group, "row": row, "objectives": settings.objectives}
            facts |= {"seed": settings.seed, "steps": until or settings.rl.steps, "fingerprint": fingerprint}
            write_json(folder / slot / "policy.json", facts)

    while waiting:
        with ExitStack() as held:
            places = _take(held, list(waiting)[:1] if hardware.accelerate or hardware.vllm else waiting)
            rows = {fingerprint: waiting.pop(fingerprint) for fingerprint in places}
            names = {key: next(slot for slot, other in slots.items() if other == row) for key, row in rows.items()}
            for slot, row in slots.items():
                key = next((key for key, other in rows.items() if other == row), None)
                if key and not until and (slot != names[key] or (places[key] / "adapter").is_dir()):
                    print(f"{slot}: row {row} is trained already, taking its adapter", flush=True)
            if hardware.accelerate or hardware.vllm:
                ((key, row),) = rows.items()
                trained = {names[key]: _by_trl(settings, common, names[key], row, places[key], until)}
            else:
                named = {names[key]: row for key, row in rows.items()}
                trained = train_policies(common, named, {names[key]: place for key, place in places.items()}, until)
            for key, row in rows.items():
                if isinstance(result := trained[names[key]], Collapse):
                    collapsed.append(result)
                else:
                    copy(key, row, result)
    if collapsed:
        raise Collapse("\n".join(map(str, collapsed)))


def _by_trl(
    settings: Settings, common: Task | None, name: str, row: list[float], place: Path, until: int | None
) -> Path | Collapse:
    if settings.hardware.accelerate:
        return launch(settings.hardware.accelerate, name, row, place, until)
    return rloo.train_policy(common, name, row, place, until)


def _take(held: ExitStack, fingerprints: Iterable[str]) -> dict[str, Path]:
    """Lock the scratch folders that no other process holds; where all are held, wait for one.

    Another group may be training the same row right now: it trains, and this one takes the result. Nobody waits
    while holding a lock, so that two groups cannot wait for each other.
    """
    places = {}
    for fingerprint in fingerprints:
        try:
            places[fingerprint] = held.enter_context(scratch(fingerprint, wait=False))
        except TimeoutError:
            continue
    if not places:
        first = next(iter(fingerprints))
        places[first] = held.enter_context(scratch(first))
    return places
