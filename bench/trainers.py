"""Compare the fronts of policies trained together with those of the same policies trained one by one by TRL.

    python bench/trainers.py --seeds 0 1 2 --steps 30

Runs in a project whose stages up to `normalise` are done (`bonesoup run normalise`). For every seed both trainers train
the same rows with the same settings, rewards and prompts; noise differs, so results agree only in distribution. The
front of Rewarded Soup and Bone Soup is then sampled on validation prompts. Prints the hypervolume of every run, and the
difference of the trainers, which must lie within 3 standard errors over the seeds in reward and in hypervolume; exit
status 1 if not. What is finished is kept in var/trainers/ and not repeated.
"""

import argparse
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
import transformers

from bonesoup.evaluation.front_rows import front_rows, load_prompts, load_scorer
from bonesoup.evaluation.samples import front_of
from bonesoup.generation.soup import Policy, Soup, SoupModel
from bonesoup.method.basis import circulant
from bonesoup.method.front import hypervolume
from bonesoup.method.preferences import lattice
from bonesoup.paths import SFT
from bonesoup.settings import params
from bonesoup.settings.schema import Settings
from bonesoup.training import rloo
from bonesoup.training.joint import train_policies
from bonesoup.training.task import task

RESULTS = Path("var/trainers")


def adapters(settings: Settings, trainer: str, rows: dict[str, list[float]]) -> dict[str, Path]:
    shared = task(settings)
    folders = {slot: RESULTS / f"{trainer}-{settings.seed}-{settings.rl.steps}" / slot for slot in rows}
    if trainer == "joint":
        return train_policies(shared, rows, folders)
    return {slot: rloo.train_policy(shared, slot, row, folders[slot]) for slot, row in rows.items()}


def front(settings: Settings, rows: dict[str, list[float]], folders: dict[str, Path], samples: int) -> np.ndarray:
    """Return the mean normalised rewards [grid, objective] of a soup."""
    grid = lattice(len(settings.objectives), 4)
    policies = tuple(Policy(slot, folders[slot], tuple(row)) for slot, row in rows.items())
    soup = Soup("soup", SFT, tuple(settings.objectives), "solve", policies, tuple(map(tuple, grid.tolist())))
    prompts = load_prompts("validation", samples)
    model, scorer = SoupModel.load(soup, settings.device), load_scorer(settings)
    sampled = front_rows(model, prompts, scorer, settings.generation, settings.evaluation.batch, settings.seed)
    return front_of(sampled, "soup", settings.objectives).reward.mean(axis=0)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments.add_argument("--steps", type=int, default=30)
    arguments.add_argument("--samples", type=int, default=256)
    chosen = arguments.parse_args()
    transformers.utils.logging.disable_progress_bar()
    warnings.filterwarnings("ignore")
    settings = params.load()
    torch.set_num_threads(settings.threads)
    n, reference = len(settings.objectives), settings.evaluation.references[0]
    soups = {
        "rewarded": {f"specialist-{k + 1}": row.tolist() for k, row in enumerate(np.eye(n))},
        "bone": {f"backbone-{k + 1}": row for k, row in enumerate(circulant(n, settings.beta).round(9).tolist())},
    }
    rows = {slot: row for soup in soups.values() for slot, row in soup.items()}
    fronts: dict[tuple[str, str], list[np.ndarray]] = {}
    for seed in chosen.seeds:
        changed = settings.model_copy(
            update={"seed": seed, "rl": settings.rl.model_copy(update={"steps": chosen.steps, "warmup_steps": 2})}
        )
        for trainer in ("joint", "trl"):
            trained = adapters(changed, trainer, rows)
            for soup, part in soups.items():
                fronts.setdefault((soup, trainer), []).append(front(changed, part, trained, chosen.samples))
    missed = []
    for soup in soups:
        both = {trainer: np.stack(fronts[soup, trainer]) for trainer in ("joint", "trl")}
        volumes = {t: [hypervolume(f, [reference] * n) for f in values] for t, values in both.items()}
        for trainer, values in volumes.items():
            print(f"{soup}, {trainer}: hypervolume " + ", ".join(f"{v:.2f}" for v in values))
        parts = {"hypervolume": np.subtract(volumes["joint"], volumes["trl"])}
        for i, name in enumerate(settings.objectives):
            parts[f"mean {name} over the grid"] = (both["joint"] - both["trl"])[:, :, i].mean(axis=1)
        for what, difference in parts.items():
            # Not below what sampling alone makes of a mean.
            error = max(difference.std(ddof=1) / len(difference) ** 0.5, (2 / chosen.samples) ** 0.5 / 3)
            print(f"  {what}: joint - trl = {difference.mean():+.3f}, standard error {error:.3f}")
            if abs(difference.mean()) > 3 * error:
                missed.append(f"{soup}: {what} differs by {difference.mean():+.3f}, {3 * error:.3f} is 3 errors")
    print("\n" + ("\n".join(missed) if missed else "every bound is met"))
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
