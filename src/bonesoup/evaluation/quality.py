"""Measure what a preference gets from each method: one headline, what it hides, and one table in the report."""

from collections.abc import Sequence

import numpy as np

from bonesoup.evaluation.compare import Block, Results, places_on
from bonesoup.evaluation.metrics.asked import calibration, expected_utility, nearest_shares, regret
from bonesoup.evaluation.metrics.reference import hypervolume_ratios, reference_points
from bonesoup.evaluation.metrics.steering import moved, rank_correlation
from bonesoup.evaluation.metrics.union import against_union
from bonesoup.evaluation.samples import Front
from bonesoup.evaluation.statistics import Statistics, resampled_means
from bonesoup.evaluation.tables import number, with_interval
from bonesoup.evaluation.units import UNITS
from bonesoup.method.methods import BASELINE, SFT, title

HEADINGS = (
    "method",
    "Expected utility",
    f"vs {title(BASELINE)}",
    "Regret",
    "Worst regret",
    "Calibration",
    "ε",
    "IGD+",
    "Pareto",
    "Rank correlation",
    "Moved, own (others)",
    "HV ratios",
)


def quality(fronts: Sequence[Front], results: Results, statistics: Statistics) -> dict:
    """Measure what preferences get, on every grid of `results` with more than one point.

    Args:
        fronts: those of `results`.
        statistics: the resamples of `results`.

    Returns:
        {grid: {unit: {"reference_points", "methods": {method: metrics}}}}, under the names of report.json's grids. SFT
        counts among the answers to compare with, and has no metrics of its own.
    """
    weights = statistics.weights(len(fronts[0].prompts))
    return {
        block.name.replace(" ", "_"): {
            unit: _of_unit([f for f in fronts if f.method in block.methods], block, unit, weights, statistics)
            for unit in results.units
        }
        for block in results.blocks
        if len(block.preferences) > 1
    }


def _of_unit(fronts: list[Front], block: Block, unit: str, weights: np.ndarray, statistics: Statistics) -> dict:
    grid, shares = block.preferences, nearest_shares(block.preferences)
    points, spent = {}, {}
    for front in fronts:
        at = [0] if front.method == SFT else places_on(front.preferences, grid)
        points[front.method] = resampled_means(weights, front.scores(unit)[:, at])
        spent[front.method] = resampled_means(weights, np.stack([front.kl[:, at], front.tokens[:, at]], axis=2))
    regrets = regret({method: (front * grid).sum(axis=2) for method, front in points.items()})
    union = against_union(points)
    sample = {method: front[0] for method, front in points.items()}
    references = reference_points(list(sample.values()))
    ratios = hypervolume_ratios(sample, BASELINE, references) if BASELINE in sample else {}
    reached = {method: expected_utility(front, shares) for method, front in points.items() if method != SFT}

    def plain(draws: np.ndarray) -> dict:
        return statistics.estimate(draws).plain()

    def of_method(method: str, front: np.ndarray) -> dict:
        correlation = rank_correlation(front, grid)
        slopes = moved(np.concatenate([front, spent[method]], axis=2), grid)
        names = fronts[0].objectives
        metrics = {
            "expected_utility": plain(reached[method]),
            "regret": plain(regrets[method].mean(axis=1)),
            # At the preference where the sample has most regret, in all resamples.
            "worst_regret": plain(regrets[method][:, regrets[method][0].argmax()]),
            "regret_at": regrets[method][0].tolist(),
            "calibration": plain(calibration(front, grid).mean(axis=1)),
            "pareto": plain(union[method]["pareto"].mean(axis=1)),
            "pareto_at": union[method]["pareto"][1:].mean(axis=0).tolist(),
            "rank_correlation": {name: plain(correlation[:, i]) for i, name in enumerate(names)},
            "moved": {
                name: {what: plain(slopes[:, i, k]) for k, what in enumerate([*names, "kl", "tokens"])}
                for i, name in enumerate(names)
            },
            "hypervolume_ratios": ratios.get(method, []),
        }
        metrics |= {key: plain(draws) for key, draws in union[method].items() if key != "pareto"}
        if BASELINE in reached and method != BASELINE:
            metrics["expected_utility_difference"] = plain(reached[method] - reached[BASELINE])
        return metrics

    return {
        "reference_points": references.tolist(),
        "methods": {method: of_method(method, points[method]) for method in reached},
    }


def listed(report: dict) -> list[tuple[str, tuple[str, ...], list[list[str]]]]:
    """Write the full grid's metrics of report.json as tables: title, headings and rows for each unit."""
    return [
        (
            f"What a preference gets, full grid: {UNITS[unit]}",
            HEADINGS,
            [_row(report, method, metrics) for method, metrics in measured["methods"].items()],
        )
        for unit, measured in _units(report)
    ]


def _units(report: dict) -> list[tuple[str, dict]]:
    """List the units that the full grid is measured in, the most trustworthy first."""
    grid = report.get("quality", {}).get("full_grid", {})
    return [(unit, grid[unit]) for unit in UNITS if unit in grid]


def _row(report: dict, method: str, metrics: dict) -> list[str]:
    ratios = [ratio for ratio in metrics["hypervolume_ratios"] if ratio is not None]
    spans = [f"×{number('', end)}" for end in (min(ratios), max(ratios))] if ratios else []
    names = report["objectives"]
    return [
        title(method),
        with_interval("", metrics["expected_utility"]),
        with_interval("", gap, signed=True) if (gap := metrics.get("expected_utility_difference")) else "",
        with_interval("", metrics["regret"]),
        number("", metrics["worst_regret"]["value"]),
        number("", metrics["calibration"]["value"]),
        number("", metrics["epsilon"]["value"]),
        number("", metrics["igd_plus"]["value"]),
        f"{sum(metrics['pareto_at']) / len(metrics['pareto_at']):.0%}",
        ", ".join(number("correlation", metrics["rank_correlation"][name]["value"]) for name in names),
        ", ".join(_moved(metrics["moved"][name], name, names) for name in names),
        " to ".join(spans),
    ]


def _moved(slopes: dict, own: str, names: Sequence[str]) -> str:
    others = sum(slopes[name]["value"] for name in names if name != own)
    return f"{number('moved', slopes[own]['value'], True)} ({number('moved', others, True)})"


def headline(report: dict, method: str) -> dict | None:
    """Return the difference in expected utility of `method` to the baseline, in the best unit; None if not compared."""
    for _, measured in _units(report)[:1]:
        return measured["methods"].get(method, {}).get("expected_utility_difference")
    return None


def headlines(report: dict) -> list[str]:
    """Say for each method whether a preference drawn at random gets more from it than from the baseline."""
    return [
        f"Over random preferences {title(method)} is {_verdict(gap)} {title(BASELINE)}: expected utility "
        f"{with_interval('', gap, signed=True)}, {UNITS[unit].partition(' ')[0]}."
        for unit, measured in _units(report)[:1]
        for method, metrics in measured["methods"].items()
        if (gap := metrics.get("expected_utility_difference"))
    ]


def _verdict(gap: dict) -> str:
    return "better than" if gap["low"] > 0 else "worse than" if gap["high"] < 0 else "level with"


def note(report: dict) -> list[str]:
    """Say how to read the table; nothing without one."""
    if not _units(report):
        return []
    return [
        "Expected utility is the headline of a front: preferences are drawn uniformly, each asks for the nearest point "
        "that was measured, and the answer counts by the drawn preference. Regret: behind the best method at a "
        "preference, on average and at worst. Calibration: what asking for another point of the same method would "
        "gain. ε and IGD+: short of the union of all fronts. Pareto: probability that a point is on that union. By "
        "objective: rank correlation of weight and reward, and how far the reward moved from weight 0 to 1 (the others "
        "together). HV ratios: smallest and largest over six reference points. docs/method.md says where each misleads."
    ]
