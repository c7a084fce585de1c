"""Train each weight row once. A fingerprint of everything that affects the adapter names its scratch folder."""

import shutil
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

from bonesoup.files import digest, file_digest, write_json
from bonesoup.paths import NORMALISER, PROMPTS, REWARDS, SFT
from bonesoup.settings.schema import Settings
from bonesoup.training import rloo
from bonesoup.training.joint import train_policies
from bonesoup.training.launch import launch
from bonesoup.training.scratch import programs, scratch
from bonesoup.training.task import Collapse, Task, task


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
    shared = inputs(settings)
    common = None if settings.hardware.accelerate else task(settings)
    fingerprints = {slot: digest(row, shared) for slot, row in slots.items()}
    # Equal rows are trained under the name of the first slot that has them.
    first = {fingerprint: slot for slot, fingerprint in reversed(fingerprints.items())}
    waiting, collapsed = list(dict.fromkeys(fingerprints.values())), []
    while waiting:
        with ExitStack() as held:
            places = _take(held, waiting[:1] if by_trl(settings) else waiting)
            waiting = [fingerprint for fingerprint in waiting if fingerprint not in places]
            mine = [slot for slot in slots if fingerprints[slot] in places]
            for slot in mine if not until else ():
                if slot != first[fingerprints[slot]] or (places[fingerprints[slot]] / "adapter").is_dir():
                    print(f"{slot}: row {slots[slot]} is trained already, taking its adapter", flush=True)
            scratches = {first[fingerprint]: place for fingerprint, place in places.items()}
            results = _train(settings, common, {slot: slots[slot] for slot in scratches}, scratches, until)
            collapsed += [result for result in results.values() if isinstance(result, Collapse)]
            for slot in mine:
                adapter = results[first[fingerprints[slot]]]
                if isinstance(adapter, Collapse):
                    continue
                facts = {"steps": until or settings.rl.steps, "fingerprint": fingerprints[slot]}
                store_policy(adapter, folder, settings, group, slot, slots[slot], facts)
    if collapsed:
        raise Collapse("\n".join(map(str, collapsed)))


def store_policy(
    adapter: Path, folder: Path, settings: Settings, group: str, slot: str, row: list[float], facts: dict
) -> None:
    """Copy a trained adapter to folder/<slot>, with `facts` about its training in policy.json."""
    shutil.copytree(adapter, folder / slot)
    made = {"slot": slot, "group": group, "row": row, "objectives": settings.objectives, "seed": settings.seed}
    write_json(folder / slot / "policy.json", made | facts)


def by_trl(settings: Settings) -> bool:
    """Return True if TRL trains the policies, one after another."""
    return settings.hardware.accelerate is not None or settings.hardware.vllm


def _train(
    settings: Settings,
    common: Task | None,
    rows: dict[str, list[float]],
    places: dict[str, Path],
    until: int | None,
) -> dict[str, Path | Collapse]:
    """Train `rows` {slot: row} in their scratch folders; under TRL, one of them."""
    if not by_trl(settings):
        return train_policies(common, rows, places, until)
    ((slot, row),) = rows.items()
    try:
        if file := settings.hardware.accelerate:
            return {slot: launch(file, slot, row, places[slot], until, settings.rl.steps)}
        return {slot: rloo.train_policy(common, slot, row, places[slot], until)}
    except Collapse as collapse:
        return {slot: collapse}


def _take(held: ExitStack, fingerprints: Iterable[str]) -> dict[str, Path]:
    """Lock the scratch folders that no other process holds; if all are held, wait for one.

    Another group may be training the same row: this one then waits and takes its result. Nobody waits
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
