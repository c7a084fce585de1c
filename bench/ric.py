"""Tune Rewards-in-Context on validation prompts.

    python bench/ric.py embedded --learning-rates 0.003 0.001 0.01 0.03
    python bench/ric.py embedded --learning-rates 0.003 --keep 0.7 0.5 0.9 --rounds 1 3 --online 0.33 0.66

In a clone of HEAD under var/ric/, RiC trains with every combination of the listed settings on the same data, rewards
and budget, and answers validation prompts at every preference. Prints a table, best first: the mean utility over the
grid, in gold if the task knows it, else by judges or learned rewards; its difference to the first combination, paired
by prompt, with a 95% interval; KL. No test prompt is read. A combination that is trained is not trained again.
"""

import argparse
import contextlib
import itertools
import os
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
import transformers
from clones import configure, make_clone, repro

from bonesoup.evaluation.choices import mean_utilities
from bonesoup.evaluation.front_rows import load_prompts, load_scorer, rows_of_run
from bonesoup.evaluation.samples import Front, front_of
from bonesoup.evaluation.statistics import Statistics
from bonesoup.evaluation.tables import number, with_interval
from bonesoup.generation.soup import Soup, SoupModel
from bonesoup.paths import SOUPS
from bonesoup.settings import params, profiles
from bonesoup.workspace.repro import computing


def front(prompts: list[dict]) -> Front:
    """Return the front of the RiC that this folder's run has trained, on these prompts."""
    settings = params.load()
    soup = Soup.read(SOUPS / "ric.json")
    rows = rows_of_run(settings, SoupModel.load(soup, settings.device), prompts, load_scorer(settings))
    return front_of(rows, "ric", settings.objectives)


def main() -> None:
    """Train and measure every combination, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("profile")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--learning-rates", type=float, nargs="+", default=[0.003])
    parser.add_argument("--keep", type=float, nargs="+", default=[0.7])
    parser.add_argument("--rounds", type=int, nargs="+", default=[1])
    parser.add_argument("--online", type=float, nargs="+", default=[0.33])
    parser.add_argument("--samples", type=int, default=256, help="validation prompts")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", dest="changes")
    arguments = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()
    warnings.filterwarnings("ignore")
    changes = dict(map(profiles.parse_change, arguments.changes)) | {"seed": arguments.seed}
    changes |= {"methods": ["sft", "rewarded", "ric"], "oracles": [], "diagnosis.samples": 0}
    clone = make_clone(Path("var/ric") / f"{arguments.profile}-{arguments.seed}", arguments.profile, changes)
    os.chdir(clone)
    settings = params.load()
    os.environ.update(computing(settings))
    torch.set_num_threads(settings.threads)
    names = ("learning_rate", "keep", "rounds", "online")
    lists = (arguments.learning_rates, arguments.keep, arguments.rounds, arguments.online)
    fronts = {}
    for values in itertools.product(*lists):
        configure(clone, arguments.profile, changes | {f"ric.{key}": v for key, v in zip(names, values, strict=True)})
        repro(clone, "scale@ric")
        with contextlib.redirect_stdout(sys.stderr):
            fronts[values] = front(load_prompts("validation", arguments.samples))
    statistics = Statistics(settings.evaluation.bootstrap, 0.95, settings.seed)
    unit, prompts = next((each.units[0], each.prompts) for each in fronts.values())
    draws = statistics.weights(len(prompts))
    utility = {values: mean_utilities(each, unit, draws) for values, each in fronts.items()}
    first = next(iter(utility.values()))
    print(f"{len(prompts)} validation prompts, seed {settings.seed}, {unit}\n")
    print(f"| {' | '.join(names)} | utility | against the first | KL, nats |\n|---|---|---|---|---:|---:|---:|")
    for values in sorted(fronts, key=lambda each: -utility[each][0]):
        gain, kl = statistics.estimate(utility[values] - first), float(np.mean(fronts[values].kl))
        cells = [f"{value:g}" for value in values] + [number("", utility[values][0])]
        print(f"| {' | '.join(cells)} | {with_interval('', gain.plain(), signed=True)} | {kl:.1f} |")


if __name__ == "__main__":
    main()
