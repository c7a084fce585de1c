"""The promotion rule applied to scores: a list of checks, each with its numbers."""

from dataclasses import dataclass, replace

import numpy as np

from bonesoup.evaluation import point
from bonesoup.evaluation.samples import Front, shared_units
from bonesoup.method.methods import SFT
from bonesoup.promotion.rule import Gain, Rule
from bonesoup.promotion.scoring import Scored, evaluate
from bonesoup.registry.yardstick import Yardstick

CHALLENGER, INCUMBENT = "challenger", "incumbent"


@dataclass(frozen=True)
class Check:
    """One condition.

    Attributes:
        name: what was looked at.
        value, low, high: what was found, and its interval; None where it is no number.
        bound: the number it is held against.
        demand: what is demanded, in words.
    """

    name: str
    passed: bool
    demand: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    bound: float | None = None


def unit_of(rule: Rule, fronts: list[Front]) -> str:
    """The unit that judges.

    Raises:
        ValueError: the rule asks for a gold score that is not known.
    """
    known = shared_units(fronts)
    if rule.unit == "best":
        return known[0]
    if rule.unit not in known:
        raise ValueError("the rule judges by the gold score, which the yardstick does not know: set unit to best")
    return rule.unit


def judge(challenger: Scored, incumbent: Front, yardstick: Yardstick, rule: Rule) -> tuple[str, list[Check]]:
    """(unit, checks) of the challenger against the front of the champion, or of what stands in for it.

    Raises:
        ValueError: the rule names a metric or unit that the yardstick does not give.
    """
    mine, theirs = replace(challenger.front, method=CHALLENGER), replace(incumbent, method=INCUMBENT)
    unit = unit_of(rule, [mine, theirs, challenger.fronts[SFT]])
    (block, *_) = evaluate([theirs, mine], yardstick, baseline=INCUMBENT).blocks
    own, gaps = block.metrics[unit][CHALLENGER], block.differences[unit][CHALLENGER]
    for gain in rule.gains:
        if gain.metric not in gaps:
            raise ValueError(f"the rule asks for {gain.metric}; on this yardstick there are: {', '.join(gaps)}")
    checks = [_gain(gain, unit, gaps[gain.metric]) for gain in rule.gains]
    if "controllability" in gaps:
        gap, bound = gaps["controllability"], 0 - rule.guards.controllability.tolerance
        checks.append(
            Check(
                f"{unit}/controllability against the incumbent",
                gap.value >= bound,
                f"difference at least {bound:g}",
                gap.value,
                gap.low,
                gap.high,
                bound,
            )
        )
    checks += _objectives(challenger, unit, yardstick, rule)
    kl, bound = own["kl"], rule.guards.kl.max
    checks.append(Check("kl", kl.value <= bound, f"mean at most {bound:g} nats", kl.value, kl.low, kl.high, bound))
    return unit, checks


def _gain(gain: Gain, unit: str, gap) -> Check:
    sign = 1 if gain.better == "higher" else -1
    value, low, high = sign * gap.value, sign * gap.low, sign * gap.high
    low, high = min(low, high), max(low, high)
    bound = gain.min_gain
    demand = f"interval above {bound:g}" + (" (lower is better)" if sign < 0 else "")
    return Check(f"gain in {unit}/{gain.metric}", low > bound, demand, value, low, high, bound)


def _objectives(challenger: Scored, unit: str, yardstick: Yardstick, rule: Rule) -> list[Check]:
    """No objective below the SFT policy at the even preference."""
    n, bound = len(yardstick.objectives), 0 - rule.guards.objectives.tolerance
    even = np.full(n, 1 / n)
    sft = challenger.fronts[SFT]
    gaps = point.differences(challenger.front, sft, even, unit, yardstick.statistics)
    return [
        Check(
            f"{unit}/{name} against SFT at the even preference",
            gaps[name].value >= bound,
            f"difference at least {bound:g}",
            gaps[name].value,
            gaps[name].low,
            gaps[name].high,
            bound,
        )
        for name in yardstick.objectives
    ]
