"""Check on a finished run how often what is promised for an outcome holds on prompts that were not looked at.

    python bench/outcomes.py [FOLDER]      a project with out/; by default this one

Prints a Markdown table for docs/steering.md. `all limits at once`: how often every lower limit, computed from that many
prompts drawn from the run's, lies below the mean over all of them; it should be the confidence. `kept elsewhere`: how
often a preference chosen on some prompts meets its bound on average over all the others, for the highest bound that
could be promised, which tempts most; the mean over the others has noise of its own. Nothing is generated.
"""

import argparse
from pathlib import Path

import numpy as np

from bonesoup.evaluation.samples import Front, read_front
from bonesoup.evaluation.statistics import Statistics
from bonesoup.method.methods import servable, title
from bonesoup.paths import FRONTS
from bonesoup.settings import params

REPEATS, RESAMPLES = 400, 500


def coverage(scores: np.ndarray, prompts: int, statistics: Statistics, rng: np.random.Generator) -> float:
    """Return how often all limits hold at once, the measured prompts standing for all there are."""
    truth = scores.mean(axis=0)
    drawn = (scores[rng.integers(len(scores), size=prompts)] for _ in range(REPEATS))
    return float(np.mean([(statistics.lower_limits(sample) <= truth).all() for sample in drawn]))


def kept(scores: np.ndarray, prompts: int, statistics: Statistics, rng: np.random.Generator) -> float:
    """Return how often the highest promise for an objective, drawn in turn, is kept on the other prompts."""
    held = []
    for repeat in range(REPEATS):
        order, objective = rng.permutation(len(scores)), repeat % scores.shape[2]
        limits = statistics.lower_limits(scores[order[:prompts]])[:, objective]
        others = scores[order[prompts:], limits.argmax(), objective].mean()
        held.append(others >= limits.max())
    return float(np.mean(held))


def rows(front: Front, confidence: float) -> list[str]:
    """Write a table row for each number of prompts."""
    scores = front.scores(front.units[0])
    statistics = Statistics(RESAMPLES, confidence, 0)
    written = []
    for share in (8, 4, 2):
        prompts, rng = len(scores) // share, np.random.default_rng(share)
        shares = (measure(scores, prompts, statistics, rng) for measure in (coverage, kept))
        cells = [title(front.method), front.units[0], str(prompts), f"{confidence:.0%}", *(f"{s:.1%}" for s in shares)]
        written.append(f"| {' | '.join(cells)} |")
    return written


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("."))
    folder = parser.parse_args().folder
    settings = params.load(folder / params.PARAMS)
    print("| method | unit | prompts looked at | stated | all limits at once | kept elsewhere |")
    print("|---|---|---|---|---|---|")
    for method in servable(settings.methods):
        front = read_front(folder / FRONTS / method / "samples.parquet", method, settings.objectives)
        for confidence in (0.9, 0.95):
            print("\n".join(rows(front, confidence)))


if __name__ == "__main__":
    main()
