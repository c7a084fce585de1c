"""Find rewards that may be gamed: the learned score runs away, and the judge that trained no policy does not follow."""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.stats import t

from bonesoup.evaluation.samples import Front, shared_units
from bonesoup.evaluation.statistics import Estimate, Statistics, resampled_means
from bonesoup.evaluation.tables import preference, with_interval
from bonesoup.method.methods import SFT, title

# A judge that gains at least this share of the learned gain follows.
FOLLOWS = 0.5
# Most parts into which a training log is divided, and fewest steps of a part.
PARTS, STEPS = 10, 5
TITLE = "Learned rewards and their judges: gains over SFT, where the learned one is furthest ahead"
# The judge learned from pairs of the same source.
FOLLOWED = "No learned reward runs away from its judge. A shortcut that the pairs themselves teach would not show here."
HEADINGS = ("method", "reward", "at", "learned", "judge", "ahead", "")


def gaming(
    fronts: Sequence[Front], statistics: Statistics, training: Mapping[str, Mapping[str, Sequence[dict]]] | None = None
) -> list[dict]:
    """Compare what each learned reward and its judge gain over the SFT policy, by method.

    A computed reward has no judge but itself and is left out.

    Args:
        statistics: of one method and objective; its preferences share the confidence.
        training: {method: {slot: rows of steps.jsonl}}, the logs of the policies that a method is made of.

    Returns:
        For each method and objective {"method", "objective", "preference", "learned", "judge", "ahead", "gamed"}, at
        the preference where the learned gain is furthest ahead of the judge's, one that may be gamed first: gains in
        SFT standard deviations with intervals, and whether the reward may be gamed. If it may, "since" maps the slots
        whose log has the judge's score to the result of `ran_away`. Empty if there are no judges, or if the SFT policy
        is not among the methods.
    """
    sft = next((front for front in fronts if front.method == SFT), None)
    if sft is None or "judge" not in shared_units(fronts):
        return []
    weights, entries = statistics.weights(len(sft.prompts)), []
    for front in (front for front in fronts if front.method != SFT):
        shared = statistics.shared(len(front.preferences))
        # [draw, grid, objective]
        learned, judge = (
            resampled_means(weights, front.scores(unit) - sft.scores(unit)) for unit in ("reward", "judge")
        )
        for i, objective in enumerate(front.objectives):
            if not np.array_equal(front.reward[..., i], front.judge[..., i]):
                points = [
                    _point(learned[:, k, i], judge[:, k, i], shared) | {"preference": mu.tolist()}
                    for k, mu in enumerate(front.preferences)
                ]
                worst = max(points, key=lambda point: (point["gamed"], point["ahead"]["value"]))
                if worst["gamed"] and training:
                    worst["since"] = _since(training.get(front.method, {}), objective, statistics.confidence)
                entries.append({"method": front.method, "objective": objective} | worst)
    return entries


def _since(logs: Mapping[str, Sequence[dict]], objective: str, confidence: float) -> dict[str, int | None]:
    return {
        slot: ran_away(steps, objective, confidence)
        for slot, steps in logs.items()
        if steps and f"judge/{objective}" in steps[0]
    }


def ran_away(steps: Sequence[dict], objective: str, confidence: float) -> int | None:
    """Find the step from which on, to the end of training, a reward looked gamed.

    `may_be_gamed` decides for each tenth of the steps, longer parts in a short log. Scores are gains already: they are
    normalised on responses of the SFT policy. A step has prompts and answers of its own, so the intervals are Student's
    over the steps of a part.

    Args:
        steps: rows of steps.jsonl, with reward and judge of the objective.

    Returns:
        The first step of the first such part; None if the last part is not one, or the log is too short.
    """
    if len(steps) < STEPS:
        return None
    learned, judge = (np.array([step[f"{unit}/{objective}"] for step in steps]) for unit in ("reward", "judge"))
    since = None
    for part in reversed(np.array_split(np.arange(len(steps)), min(PARTS, len(steps) // STEPS))):
        means = [_mean(values[part], confidence) for values in (learned, judge, learned - judge)]
        if not may_be_gamed(*means):
            break
        since = int(steps[part[0]]["step"])
    return since


def _mean(values: np.ndarray, confidence: float) -> Estimate:
    half = t.ppf((1 + confidence) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return Estimate(*(float(values.mean() + side * half) for side in (0, -1, 1)))


def _point(learned: np.ndarray, judge: np.ndarray, statistics: Statistics) -> dict:
    """Compare both gains, draws [1 + resamples], at one preference."""
    gain, confirmed, ahead = map(statistics.estimate, (learned, judge, learned - judge))
    return {
        "learned": gain.plain(),
        "judge": confirmed.plain(),
        "ahead": ahead.plain(),
        "gamed": may_be_gamed(gain, confirmed, ahead),
    }


def may_be_gamed(learned: Estimate, judge: Estimate, ahead: Estimate) -> bool:
    """Tell whether a gain in learned reward looks like gaming.

    It does if the reward certainly gains, certainly more than its judge, and the judge's gain is not certain or less
    than half as large.
    """
    runs_away = learned.low > 0 and ahead.low > 0
    return runs_away and (judge.low <= 0 or judge.value < FOLLOWS * learned.value)


def rows(report: dict) -> list[list[str]]:
    """Write the entry `gaming` of report.json as rows under HEADINGS; none without judges."""
    return [
        [
            title(entry["method"]),
            entry["objective"],
            preference(report, entry["preference"]),
            *(_gain(entry[key]) for key in ("learned", "judge", "ahead")),
            "may be gamed" if entry["gamed"] else "",
        ]
        for entry in report.get("gaming", [])
    ]


def hints(report: dict) -> list[str]:
    """Say which rewards may be gamed, or that none seems to be; nothing without judges."""
    compared = report.get("gaming", [])
    gamed = [
        f"Reward {entry['objective']} may be gamed by {title(entry['method'])} at "
        f"{preference(report, entry['preference'])}: learned {_gain(entry['learned'])}, judge {_gain(entry['judge'])}."
        f"{_in_training(entry.get('since'))}"
        for entry in compared
        if entry["gamed"]
    ]
    return gamed or [FOLLOWED] * bool(compared)


def _in_training(since: dict[str, int | None] | None) -> str:
    """Say from which step on the reward ran away, by policy; nothing if the logs have no judge."""
    if not since:
        return ""
    steps = [f"from step {step} on ({slot})" for slot, step in since.items() if step is not None]
    if not steps:
        return " It does not show at the end of any policy's training."
    return f" In training it ran away {', '.join(steps)}."


def _gain(estimate: dict) -> str:
    return with_interval("", estimate, True)
