"""Compare searches for beta, at equal cost, with the full runs they stand for.

    python bench/seek.py embedded --seeds 0 1 2 --betas 0.6 0.7 0.8

For every seed, in a clone of HEAD under var/seek/, `dvc repro normalise` makes data, SFT policy, rewards and
normaliser. Then the backbones of every beta train to the end and keep their adapters along the way. Three searches see
only the validation fronts at the steps they have paid for:

    paper     every beta for a fifth of the steps; take the largest hypervolume
    kept      the same, but keep the default unless another is distinguishable from it (the stage `seek`)
    halving   every beta for a tenth; the better half continues until the same number of updates is spent

Prints what each search spent and chose, and the hypervolume and interior utility, on test prompts, of the full run it
led to, against the best beta's. Progress goes to standard error. A clone resumes and repeats nothing finished.
"""

import argparse
import contextlib
import os
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
import transformers
from clones import make_clone, repro

from bonesoup.evaluation.choices import compare_betas
from bonesoup.evaluation.compare import regions
from bonesoup.evaluation.front_rows import front_rows, load_prompts, load_scorer
from bonesoup.evaluation.samples import Front, front_of
from bonesoup.evaluation.statistics import Statistics
from bonesoup.files import appearing
from bonesoup.generation.soup import Policy, Soup, SoupModel
from bonesoup.method.basis import circulant
from bonesoup.method.front import hypervolume
from bonesoup.method.preferences import lattice
from bonesoup.paths import SFT
from bonesoup.settings import params, profiles
from bonesoup.training.rows import train_rows
from bonesoup.workspace.repro import computing

RESULTS = Path("var/seek")


class Probes:
    """Make fronts of one seed's betas after any number of steps, each trained and sampled once."""

    def __init__(self, settings, samples: int):
        self.settings, self.samples = settings, samples
        self.scorer = load_scorer(settings)
        self.grid = lattice(len(settings.objectives), settings.evaluation.parts)
        self.known: dict[tuple, Front] = {}

    def front(self, beta: float, steps: int, split: str) -> Front:
        """Return the front [prompt, grid, objective] of the soup of beta's backbones after `steps` of the full run."""
        key = (beta, steps, split)
        if key not in self.known:
            folder = RESULTS / f"{beta}-{steps}"
            rows = circulant(len(self.settings.objectives), beta).round(9).tolist()
            slots = {f"backbone-{k}": row for k, row in enumerate(rows, start=1)}
            if not folder.is_dir():
                until = steps if steps < self.settings.rl.steps else None
                with appearing(folder) as made:
                    train_rows(self.settings, f"beta-{beta}", slots, made, until=until)
            policies = tuple(Policy(slot, folder / slot, tuple(row)) for slot, row in slots.items())
            points = tuple(map(tuple, self.grid.tolist()))
            soup = Soup("seek", SFT, tuple(self.settings.objectives), "solve", policies, points)
            prompts = load_prompts(split, self.samples)
            model, batch = SoupModel.load(soup, self.settings.device), self.settings.evaluation.batch
            samples = front_rows(model, prompts, self.scorer, self.settings.generation, batch, self.settings.seed)
            self.known[key] = front_of(samples, "seek", self.settings.objectives)
        return self.known[key]

    def volumes(self, betas: list[float], steps: int) -> dict[float, float]:
        reference = self.settings.evaluation.references[0]
        return {
            beta: hypervolume(front.reward.mean(axis=0), [reference] * front.reward.shape[2])
            for beta in betas
            for front in [self.front(beta, steps, "validation")]
        }


def searches(probes: Probes, betas: list[float], default: float) -> dict[str, tuple[float, int]]:
    """Map each search to (the beta chosen, updates of one policy spent on all candidates)."""
    full, settings = probes.settings.rl.steps, probes.settings
    fifth, tenth = max(1, round(0.2 * full)), max(1, round(0.1 * full))
    # In the order of steps: a policy goes on from where it was.
    at_tenth = probes.volumes(betas, tenth)
    at_fifth = probes.volumes(betas, fifth)
    spent = len(betas) * fifth
    fronts = {beta: probes.front(beta, fifth, "validation") for beta in betas}
    statistics = Statistics(settings.evaluation.bootstrap, 0.95, settings.seed)
    table = compare_betas(fronts, default, settings.evaluation.references[0], statistics)
    best = max(table, key=lambda candidate: candidate["hypervolume"]["value"])
    half = sorted(betas, key=lambda beta: -at_tenth[beta])[: (len(betas) + 1) // 2]
    further = tenth + (spent - len(betas) * tenth) // len(half)
    at_further = probes.volumes(half, further)
    return {
        "paper": (max(at_fifth, key=at_fifth.get), spent),
        "kept": (best["beta"] if best["difference"]["low"] > 0 else default, spent),
        "halving": (max(at_further, key=at_further.get), len(betas) * tenth + len(half) * (further - tenth)),
    }


def quality(probes: Probes, beta: float) -> dict[str, float]:
    """Measure the full run of beta on the test prompts, in gold if it is known."""
    front = probes.front(beta, probes.settings.rl.steps, "test")
    points = front.scores(front.units[0]).mean(axis=0)
    inside = regions(probes.grid, probes.settings.evaluation.interior)["interior"]
    reference = [probes.settings.evaluation.references[0]] * points.shape[1]
    return {
        "hypervolume": hypervolume(points, reference),
        "interior": float((points * probes.grid).sum(axis=1)[inside].mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("profile")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--betas", type=float, nargs="+", default=[0.6, 0.7, 0.8])
    parser.add_argument("--samples", type=int, default=256, help="prompts per preference")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", dest="changes")
    arguments = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()
    warnings.filterwarnings("ignore")
    changes, here = dict(map(profiles.parse_change, arguments.changes)), Path.cwd()
    lost: dict[str, list[dict[str, float]]] = {}
    print("| seed | " + " | ".join(f"beta {beta:g}: HV, interior" for beta in arguments.betas) + " | chosen |")
    print("|---" * (len(arguments.betas) + 2) + "|")
    for seed in arguments.seeds:
        clone = make_clone(RESULTS / f"{arguments.profile}-{seed}", arguments.profile, changes | {"seed": seed})
        repro(clone, "normalise")
        os.chdir(clone)
        settings = params.load()
        os.environ.update(computing(settings))
        torch.set_num_threads(settings.threads)
        probes = Probes(settings, arguments.samples)
        with contextlib.redirect_stdout(sys.stderr):
            chosen = searches(probes, arguments.betas, settings.beta)
            reached = {beta: quality(probes, beta) for beta in arguments.betas}
        best = {key: max(metrics[key] for metrics in reached.values()) for key in ("hypervolume", "interior")}
        for name, (beta, spent) in chosen.items():
            gaps = {key: best[key] - reached[beta][key] for key in best}
            lost.setdefault(name, []).append(gaps | {"spent": spent})
        cells = [f"{metrics['hypervolume']:.3f}, {metrics['interior']:.3f}" for metrics in reached.values()]
        chosen_betas = ", ".join(f"{name} {beta:g}" for name, (beta, _) in chosen.items())
        print(f"| {seed} | " + " | ".join(cells) + f" | {chosen_betas} |", flush=True)
        os.chdir(here)
    print("\n| search | updates of a policy spent | hypervolume lost to the best beta | interior utility lost |")
    print("|---|---:|---:|---:|")
    for name, rows in lost.items():
        means = {key: np.mean([row[key] for row in rows]) for key in rows[0]}
        spread = {key: np.std([row[key] for row in rows], ddof=1) if len(rows) > 1 else 0.0 for key in rows[0]}
        print(
            f"| {name} | {means['spent']:.0f} | {means['hypervolume']:.3f} (sd {spread['hypervolume']:.3f}) "
            f"| {means['interior']:.3f} (sd {spread['interior']:.3f}) |"
        )


if __name__ == "__main__":
    main()
