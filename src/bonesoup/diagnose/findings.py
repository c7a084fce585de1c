"""Turn scores into a diagnosis: plain data for JSON, with a verdict and the reasons for it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations

import numpy as np

from bonesoup.diagnose.forecast import (
    Prediction,
    barrier,
    bend,
    curvature,
    extrapolating,
    fall,
    movement,
    predict,
    prompts_needed,
    regret,
)
from bonesoup.diagnose.lines import ADDED_NOISE, PLACES, TOGETHER, Layout, Line, Sampled
from bonesoup.diagnose.words import reasons, verdict
from bonesoup.evaluation.statistics import Statistics, resampled_means
from bonesoup.method.methods import BASELINE, MAIN, METHODS, Plan
from bonesoup.method.preferences import interior, lattice
from bonesoup.method.quadratic import asymmetry, penalised_share, regret_bone, regret_rewarded, win_region
from bonesoup.settings.schema import Settings

# KL coefficients to predict the gain for, as multiples of rl.kl.
PENALTIES = (1.0, 2.0, 3.0, 5.0)


@dataclass(frozen=True, eq=False)
class Draws:
    """Means over prompts in bootstrap draws: scores {unit: [draw, point, objective]}, kl [draw, point]."""

    scores: dict[str, np.ndarray]
    kl: np.ndarray


def diagnose(
    settings: Settings, sampled: Sampled, rows: np.ndarray, correlation: dict[str, list[list[float]]], steps: int
) -> dict:
    """Return the whole diagnosis as plain data.

    Args:
        rows: [policy, objective] of the backbones that would be trained.
        correlation: {unit: [objective, objective]} over SFT responses.
        steps: of a short run.
    """
    evaluation, objectives = settings.evaluation, settings.objectives
    statistics = Statistics.of(settings)
    known = {"reward": sampled.reward, "judge": sampled.judge, "gold": sampled.gold}
    units = {unit: scores for unit, scores in known.items() if scores is not None}
    weights = statistics.weights(len(sampled.kl))
    draws = Draws(
        {unit: resampled_means(weights, values) for unit, values in units.items()},
        resampled_means(weights, sampled.kl),
    )
    plan, unit = sampled.layout, list(units)[-1]
    grid = lattice(len(objectives), evaluation.parts)
    regrets = {name: _regret(plan, values) for name, values in draws.scores.items()}
    # In the reward it was trained on, a soup's regret is never negative, but its estimate may be: then predict from 0.
    # Gold may well fall while the learned reward rises.
    missed = {name: np.where(regrets["reward"] > 0, missing, 0) for name, missing in regrets.items()}
    mapping = METHODS[MAIN].mapping_of(*rows.shape)
    costs = {name: _extrapolating(plan, values) for name, values in draws.scores.items()}
    predictions = {
        name: predict(missing, rows, grid, evaluation.interior, statistics, mapping, costs[name])
        for name, missing in missed.items()
    }
    moved = [
        {
            "slot": f"specialist-{i + 1}",
            **statistics.estimate(draws.kl[:, point]).plain(),
            "verdict": movement(draws.kl[0, point]),
        }
        for i, point in enumerate(plan.specialists)
    ]
    pairs = _pairs(settings, plan, draws, rows, grid)
    gap = (units[unit][:, plan.even_run] - units[unit][:, plan.even]).mean(axis=1)
    needed = prompts_needed(float(gap.std(ddof=1)), predictions[unit].even.value, statistics.confidence)
    findings = {
        "objectives": list(objectives),
        "unit": unit,
        "prompts": len(sampled.kl),
        "confidence": statistics.confidence,
        "steps": steps,
        "full_steps": settings.rl.budget(len(objectives)) // len(objectives),
        "rows": rows.tolist(),
        "prediction": {name: _prediction(prediction) for name, prediction in predictions.items()},
        "soups": _soups(settings, missed, costs, rows, grid),
        "extrapolation": {name: statistics.estimate(cost).plain() for name, cost in costs.items()},
        "room": {name: statistics.estimate(missing).plain() for name, missing in regrets.items()},
        "short_runs": _short_runs(plan, draws, statistics),
        "lines": [_line(line, draws, objectives, statistics) for line in plan.lines],
        "pairs": pairs,
        "movement": moved,
        "penalty": _penalty(settings.rl.kl, pairs, predictions[unit]),
        "correlation": correlation,
        "noise": {
            "standard_error": float(gap.std(ddof=1) / len(gap) ** 0.5),
            "prompts_needed": needed,
            "prompts_evaluated": evaluation.samples,
        },
    }
    return {"verdict": verdict(findings), "reasons": reasons(findings)} | findings


def _soups(
    settings: Settings,
    missed: dict[str, np.ndarray],
    costs: dict[str, np.ndarray],
    rows: np.ndarray,
    grid: np.ndarray,
) -> list[dict]:
    """Predict every soup that could be trained: its policies, what a total of updates leaves each, and its gain.

    The gain is that of policies trained as long as the specialists; fewer updates a policy cost what no theory here
    knows.
    """
    statistics, plan, rl = Statistics.of(settings), Plan.of(rows, []), settings.rl
    listed = []
    for method in METHODS.values():
        # With the preference as coefficients a soup is an ablation, or its adapters were trained for just that: the
        # specialists say nothing about it.
        if not method.servable or method.key == BASELINE or method.mapping == "direct":
            continue
        policies = np.array(method.policies.rows(plan))
        mapping = method.mapping_of(*policies.shape)
        try:
            total = rl.budget(len(settings.objectives))
            steps = [training.steps for training in method.policies.trainings(plan, rl.steps, total).values()]
        except ValueError:
            steps = None
        predictions = {
            unit: predict(draws, policies, grid, settings.evaluation.interior, statistics, mapping, costs[unit])
            for unit, draws in missed.items()
        }
        listed.append(
            {"method": method.key, "policies": len(policies), "steps": steps}
            | {unit: _prediction(prediction) for unit, prediction in predictions.items()}
        )
    return listed


def _prediction(prediction: Prediction) -> dict:
    return asdict(prediction) | {"verdict": prediction.verdict}


def _regret(plan: Layout, means: np.ndarray) -> np.ndarray:
    even = (means[:, plan.even_run] - means[:, plan.even]).mean(axis=-1)
    return regret(even, _own(means, plan.runs) - _own(means, plan.specialists))


def _extrapolating(plan: Layout, means: np.ndarray) -> np.ndarray:
    return extrapolating(_own(means, plan.specialists) - _own(means, plan.extrapolated), ADDED_NOISE)


def _own(means: np.ndarray, points: Sequence[int]) -> np.ndarray:
    """Return each objective's mean [draw, objective] at its specialist's point, of points [objective]."""
    return np.stack([means[:, point, i] for i, point in enumerate(points)], axis=1)


def _short_runs(plan: Layout, draws: Draws, statistics: Statistics) -> list[dict]:
    """Return for each run its gain in the utility of its preference, and the KL it ended with."""
    n = draws.scores["reward"].shape[-1]
    ways = [("the even Rewarded Soup", np.full(n, 1 / n), plan.even, plan.even_run)]
    ways += [
        (f"specialist-{i}", vertex, place, run)
        for i, (vertex, place, run) in enumerate(zip(np.eye(n), plan.specialists, plan.runs, strict=True), start=1)
    ]
    return [
        {"start": name, "kl_before": float(draws.kl[0, place]), "kl_after": float(draws.kl[0, run])}
        | {
            unit: statistics.estimate((means[:, run] - means[:, place]) @ mu).plain()
            for unit, means in draws.scores.items()
        }
        for name, mu, place, run in ways
    ]


def _line(line: Line, draws: Draws, objectives: list[str], statistics: Statistics) -> dict:
    """Return mean scores at the places of a line, and how far from concave they are."""
    points = list(line.points)
    kl = draws.kl[:, points]
    table = {
        "start": "SFT" if line.start is None else f"specialist-{line.start + 1}",
        "end": f"specialist-{line.end + 1}",
        "places": list(PLACES),
        "kl": kl[0].tolist(),
    }
    for unit, means in draws.scores.items():
        table[unit] = {}
        for i, name in enumerate(objectives):
            values = means[:, points, i]
            rising = i == line.end
            falls = fall(values if rising else values[..., ::-1]) if rising or i == line.start else None
            table[unit][name] = {
                "values": values[0].tolist(),
                "barrier": statistics.estimate(barrier(PLACES, values)).plain(),
                # Only the line to or from an objective's specialist should rise or fall throughout.
                "fall": None if falls is None else statistics.estimate(falls).plain(),
            }
        table[unit][TOGETHER] = {
            "values": means[0][points].mean(axis=-1).tolist(),
            "barrier": statistics.estimate(barrier(PLACES, means[:, points].mean(axis=-1))).plain(),
            "fall": None,
        }
    return table


def _pairs(settings: Settings, plan: Layout, draws: Draws, rows: np.ndarray, grid: np.ndarray) -> list[dict]:
    """Apply scalar theory to every pair of objectives, from the line between their specialists.

    The curvature is that of the specialist's objective, reward less penalty, in units of the line's length.
    """
    statistics, n = Statistics.of(settings), len(settings.objectives)
    trained = draws.scores["reward"] - settings.rl.kl * draws.kl[..., None]
    circulant = n == 2 and len(rows) == 2 and np.allclose(rows, rows[::-1, ::-1])
    # The identity is Rewarded Soup.
    beta = float(rows[0, 0]) if circulant and rows[0, 0] < 1 else None
    listed = []
    for first, second in combinations(range(n), 2):
        line = next(line for line in plan.lines if (line.start, line.end) == (first, second))
        points = list(line.points)
        # A specialist no better at its objective than the other is no maximum of the line.
        k1 = np.maximum(curvature(PLACES, trained[:, points, first]), 0)
        k2 = np.maximum(curvature(PLACES, trained[:, points[::-1], second]), 0)
        pair = {
            "first": settings.objectives[first],
            "second": settings.objectives[second],
            "k1": statistics.estimate(k1).plain(),
            "k2": statistics.estimate(k2).plain(),
            "asymmetry": statistics.estimate(asymmetry(k1, k2)).plain(),
            "kl_curvature": float(bend(PLACES, draws.kl[0, points])),
        }
        if beta:
            mu = grid[interior(grid, settings.evaluation.interior), 0]
            mu = mu if len(mu) else np.array([0.5])
            # The line has length 1, so a quarter of its square is the theory's L^2.
            gains = regret_rewarded(k1[:, None], k2[:, None], 0.25, mu) - regret_bone(
                k1[:, None], k2[:, None], 0.25, beta, mu
            )
            pair |= {
                "win_region": float(win_region(k1[0], k2[0], beta)),
                "gain": statistics.estimate(gains.mean(axis=1)).plain(),
            }
        listed.append(pair)
    return listed


def _penalty(kl: float, pairs: list[dict], prediction: Prediction) -> list[dict]:
    """Predict the gain at stronger KL penalties, by the curvature they add to every objective."""
    curve = np.mean([(pair["k1"]["value"] + pair["k2"]["value"]) / 2 for pair in pairs])
    added = max(float(np.mean([pair["kl_curvature"] for pair in pairs])), 0.0)
    shares = [float(penalised_share(curve, (factor - 1) * kl * added)) if curve > 0 else 1.0 for factor in PENALTIES]
    return [
        {"kl": factor * kl, "share": share, "gain": share * prediction.gain}
        for factor, share in zip(PENALTIES, shares, strict=True)
    ]
