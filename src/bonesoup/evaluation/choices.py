"""Choices made on validation prompts, before anything is compared: extrapolation, beta, and the soup to register."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from bonesoup.evaluation.samples import Front, shared_units
from bonesoup.evaluation.statistics import Statistics, resampled_means
from bonesoup.method.front import hypervolume


def choose_scale(
    front: Callable[[float], Front],
    scales: Sequence[float],
    kl: float,
    statistics: Statistics,
) -> tuple[float, list[dict]]:
    """Choose how far to go beyond the merge: theta_sft + scale (theta - theta_sft).

    The training reward nearly always asks for the largest scale, as extrapolating undoes part of the KL penalty. So a
    scale has to win in a score that was not trained against (if the task has one), within a bound of KL, and by more
    than the noise of the prompts; if none does, there is no extrapolation.

    Args:
        front: scale -> the method's answers at some preferences on the validation prompts, the same at every scale.
        scales: candidates, 1 among them.
        kl: largest mean KL at any preference, nats per response.
        statistics: settings for the whole choice; the candidates share its confidence.

    Returns:
        The admissible scale of largest utility that is distinguishable from 1, else 1; and a row per candidate:
        {"scale", "unit", "utility", "gain", "kl", "admissible"}.
    """
    fronts = {scale: front(scale) for scale in sorted({1.0, *scales})}
    plain, unit = fronts[1.0], fronts[1.0].units[0]
    draws, shared = statistics.weights(len(plain.prompts)), statistics.shared(len(fronts) - 1)

    base, table = mean_utilities(plain, unit, draws), []
    for scale, candidate in fronts.items():
        reached, moved = mean_utilities(candidate, unit, draws), float(candidate.kl.mean(axis=0).max())
        table.append(
            {
                "scale": scale,
                "unit": unit,
                "utility": float(reached[0]),
                "gain": shared.estimate(reached - base).plain(),
                "kl": moved,
                "admissible": moved <= kl,
            }
        )
    better = [row for row in table if row["admissible"] and row["gain"]["low"] > 0]
    return max(better, key=lambda row: row["utility"], default={"scale": 1.0})["scale"], table


def mean_utilities(front: Front, unit: str, draws: np.ndarray) -> np.ndarray:
    """Return the mean utility over a front's preferences, [draw], under weights [draw, prompt]."""
    return resampled_means(draws, (front.scores(unit) * front.preferences).sum(axis=2).mean(axis=1))


def compare_betas(fronts: Mapping[float, Front], kept: float, reference: float, statistics: Statistics) -> list[dict]:
    """Compare betas by the hypervolume of their probes' fronts, in learned units, paired by prompt.

    Args:
        fronts: {beta: front of its probe} on the same validation prompts.
        kept: the beta that stays unless another is better.
        reference: of the hypervolume, the same value for every objective.
        statistics: of the whole choice: the differences share its confidence.

    Returns:
        {"beta", "hypervolume", "difference", "kl", "scored"} per beta: hypervolume and its difference to that of `kept`
        with their intervals, mean KL in nats per response, and the number of responses they rest on.
    """
    first = next(iter(fronts.values()))
    weights, shared = statistics.weights(len(first.prompts)), statistics.shared(len(fronts) - 1)
    corner = np.full(len(first.objectives), reference)
    draws = {
        beta: np.array([hypervolume(points, corner) for points in resampled_means(weights, front.reward)])
        for beta, front in fronts.items()
    }
    return [
        {
            "beta": beta,
            "hypervolume": statistics.estimate(values).plain(),
            "difference": shared.estimate(values - draws[kept]).plain(),
            "kl": float(fronts[beta].kl.mean()),
            "scored": fronts[beta].kl.size,
        }
        for beta, values in draws.items()
    ]


def choose_method(fronts: Sequence[Front], statistics: Statistics) -> tuple[str, list[dict]]:
    """Choose the method to register: the first one, unless others are ahead of it by more than noise.

    The utility is the mean over all preferences of the grid, in the most trustworthy unit that all share.

    Args:
        fronts: of the candidates on the same prompts; the first is kept in doubt.
        statistics: settings for the whole choice; the candidates share its confidence.

    Returns:
        Among the methods that are distinguishably ahead of the first, the one of largest utility; and a row per
        candidate: {"method", "unit", "utility", "gain"}.
    """
    kept, unit = fronts[0], shared_units(fronts)[0]
    draws, shared = statistics.weights(len(kept.prompts)), statistics.shared(len(fronts) - 1)

    base, table = mean_utilities(kept, unit, draws), []
    for front in fronts:
        reached = mean_utilities(front, unit, draws)
        gain = shared.estimate(reached - base).plain()
        table.append({"method": front.method, "unit": unit, "utility": float(reached[0]), "gain": gain})
    ahead = [row for row in table if row["gain"]["low"] > 0]
    return max(ahead, key=lambda row: row["utility"], default=table[0])["method"], table
