"""Train the short runs and score what the diagnosis looks at, from the results of the stages before."""

import numpy as np

from bonesoup.diagnose.lines import Sampled, layout
from bonesoup.evaluation.front_rows import load_prompts, rows_of_run
from bonesoup.evaluation.kept import kept
from bonesoup.evaluation.samples import front_of
from bonesoup.files import read_json
from bonesoup.generation.soup import Policy, Soup, SoupModel
from bonesoup.method.basis import basis_rows
from bonesoup.method.methods import BASELINE, Plan, method_slots
from bonesoup.paths import BETA, NORMALISER, POLICIES, ROWS, SFT
from bonesoup.settings.schema import Settings
from bonesoup.training.from_soup import run_from_soup
from bonesoup.training.task import task

# Share of a policy's steps; the paper spends as much on each candidate of its beta search.
SHARE = 0.2


def specialists(settings: Settings) -> tuple[Policy, ...]:
    """Return the specialists of this run, in the order of the objectives.

    Raises:
        ValueError: the settings train no specialists, or they do not exist yet.
    """
    n = len(settings.objectives)
    where = {slot: name for name, group in settings.policies.items() for slot in group.slots}
    wanted = method_slots(BASELINE, Plan.of(np.eye(n), []))
    if missing := [slot for slot in wanted if slot not in where]:
        raise ValueError(
            f"a diagnosis needs the specialists, and params.yaml trains no {missing[0]}: "
            "add `rewarded` to methods and its slots to policies"
        )
    if absent := sorted({where[slot] for slot in wanted if not (POLICIES / where[slot] / slot).is_dir()}):
        stages = " ".join(f"policy@{name}" for name in absent)
        raise ValueError(f"a diagnosis needs the specialists, which are not trained yet: `bonesoup run {stages}`")
    rows = {slot: row for name in settings.policies for slot, row in read_json(ROWS / f"{name}.json")["slots"].items()}
    return tuple(Policy(slot, POLICIES / where[slot] / slot, tuple(rows[slot])) for slot in wanted)


def rows(settings: Settings) -> np.ndarray:
    """Return the reward weights [backbone, objective] of the backbones that would be trained."""
    wanted = settings.basis
    return basis_rows(wanted.kind, len(settings.objectives), read_json(BETA)["beta"], wanted.rows)


def correlation() -> dict[str, list[list[float]]]:
    """Return {unit: [objective, objective]} for the scores of SFT responses, as `normalise` measured them."""
    scale = read_json(NORMALISER)
    return {"reward": scale["correlation"]} | {
        unit: scale[unit]["correlation"] for unit in ("judge", "gold") if scale.get(unit)
    }


def measure(settings: Settings, samples: int) -> tuple[Sampled, int]:
    """Train the short runs and sample every point on the same validation prompts.

    Returns:
        The scores, and the number of optimiser steps of a short run.

    Raises:
        ValueError: see `specialists`.
    """
    policies, n = specialists(settings), len(settings.objectives)
    settings = settings.model_copy(update={"rl": settings.rl.lasting(settings.rl.budget(n) // n)})
    common = task(settings)
    soup = Soup(BASELINE, SFT, tuple(settings.objectives), "solve", policies, ())
    policy = SoupModel.load(soup, settings.device)
    starts = {"from the even soup": [1 / n] * n} | {
        f"from {specialist.slot}": np.eye(n)[i].tolist() for i, specialist in enumerate(policies)
    }
    short = settings.model_copy(update={"rl": settings.rl.lasting(max(1, round(SHARE * settings.rl.steps)))})
    plan = layout(n, short.rl.steps / settings.rl.steps)
    runs = [run_from_soup(short, common, policy, preference, name) for name, preference in starts.items()]
    adapters = [specialist.path for specialist in policies] + runs
    eye = np.eye(len(adapters))
    ways = tuple(Policy(path.parent.name, path, tuple(row)) for path, row in zip(adapters, eye, strict=True))
    points = tuple(map(tuple, plan.coefficients))
    mixed = Soup("diagnose", SFT, tuple(settings.objectives), "solve", ways, points)
    prompts = load_prompts("validation", samples)
    with kept(settings, mixed, prompts) as place:
        frame = rows_of_run(settings, SoupModel.load(mixed, settings.device), prompts, kept=place)
    front = front_of(frame, mixed.method, settings.objectives)
    return Sampled(plan, front.reward, front.gold, front.kl, front.judge), short.rl.steps
