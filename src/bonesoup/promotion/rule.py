"""The rule of promotion: mlflow/promotion.yaml, and its checks of a challenger against the incumbent."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, ValidationError

from bonesoup.evaluation import point
from bonesoup.evaluation.samples import Front, shared_units
from bonesoup.evaluation.statistics import Estimate
from bonesoup.method.methods import SFT
from bonesoup.promotion.scoring import Scored, evaluate_fronts
from bonesoup.registry.yardstick import Yardstick
from bonesoup.settings.params import faults_of, parse_yaml, refusal
from bonesoup.settings.schema import Section

RULE = Path("mlflow/promotion.yaml")
METRIC = (
    r"^(inner_product(_(interior|edge|vertex))?|controllability|cardinality|sparsity|spacing|hypervolume@-?[\d.]+)$"
)
CHALLENGER, INCUMBENT = "challenger", "incumbent"

NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Gain(Section):
    metric: str = Field(pattern=METRIC, description="of the report, without its unit")
    better: Literal["higher", "lower"] = Field(description="which direction is a gain")
    min_gain: NotNegative = Field(description="the paired interval of the gain must lie above this")


class Tolerance(Section):
    tolerance: NotNegative = Field(description="how much worse is still let through")


class Bound(Section):
    max: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(description="largest value let through")


class Guards(Section):
    controllability: Tolerance
    objectives: Tolerance
    kl: Bound


class Rule(Section):
    schema_: Literal[1] = Field(alias="schema", description="version of this file's layout")
    unit: Literal["best", "gold", "judge", "reward"] = Field(description="which score judges")
    gains: list[Gain] = Field(min_length=1, description="what must get better")
    guards: Guards


def load(path: Path) -> Rule:
    """Read and check a rule file.

    Raises:
        ValueError: it is missing, not YAML, or wrong; lists every fault.
    """
    if not path.is_file():
        raise ValueError(f"{path} does not exist: it is the rule of promotion")
    raw = parse_yaml(path.read_bytes(), str(path))
    if not isinstance(raw, dict):
        raise ValueError(f"{path} must be a mapping, found {type(raw).__name__}")
    try:
        return Rule.model_validate(raw)
    except ValidationError as error:
        raise refusal(str(path), faults_of(error, raw)) from None


@dataclass(frozen=True)
class Check:
    """One condition of a promotion.

    Attributes:
        name: the quantity checked.
        demand: the demand, in words.
        value, low, high: the measured value and its interval; None if the condition is not numeric.
        bound: the number to compare the value with.
    """

    name: str
    passed: bool
    demand: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    bound: float | None = None


def judge(challenger: Scored, incumbent: Front, yardstick: Yardstick, rule: Rule) -> tuple[str, list[Check]]:
    """Apply the rule to the challenger and the front of the champion, or of its stand-in; returns (unit, checks).

    Raises:
        ValueError: the rule names a metric or unit that the yardstick does not give.
    """
    new, old = replace(challenger.front, method=CHALLENGER), replace(incumbent, method=INCUMBENT)
    unit = unit_of(rule, [new, old, challenger.fronts[SFT]])
    (block, *_) = evaluate_fronts([old, new], yardstick, baseline=INCUMBENT).blocks
    gaps, guards = block.differences[unit][CHALLENGER], rule.guards
    for gain in rule.gains:
        if gain.metric not in gaps:
            raise ValueError(f"the rule asks for {gain.metric}; on this yardstick there are: {', '.join(gaps)}")
    checks = [_gain(gain, unit, gaps[gain.metric]) for gain in rule.gains]
    if "controllability" in gaps:
        name = f"{unit}/controllability against the incumbent"
        checks.append(_not_below(name, gaps["controllability"], guards.controllability))
    checks += _objectives(challenger, unit, yardstick, guards.objectives)
    kl, bound = block.metrics[unit][CHALLENGER]["kl"], guards.kl.max
    checks.append(Check("kl", kl.value <= bound, f"mean at most {bound:g} nats", kl.value, kl.low, kl.high, bound))
    return unit, checks


def unit_of(rule: Rule, fronts: list[Front]) -> str:
    """Choose the unit that judges.

    Raises:
        ValueError: the rule asks for a score that is not known for every front.
    """
    known = shared_units(fronts)
    if rule.unit == "best":
        return known[0]
    if rule.unit not in known:
        raise ValueError(
            f"the rule judges by the {rule.unit} score, which the yardstick does not know: set unit to best"
        )
    return rule.unit


def _gain(gain: Gain, unit: str, gap: Estimate) -> Check:
    lower = gain.better == "lower"
    value, low, high = (-gap.value, -gap.high, -gap.low) if lower else (gap.value, gap.low, gap.high)
    bound = gain.min_gain
    demand = f"interval above {bound:g}" + (" (lower is better)" if lower else "")
    return Check(f"gain in {unit}/{gain.metric}", low > bound, demand, value, low, high, bound)


def _not_below(name: str, gap: Estimate, guard: Tolerance) -> Check:
    # Not -tolerance, which is -0.0 for 0.
    bound = 0 - guard.tolerance
    demand = f"difference at least {bound:g}"
    return Check(name, gap.value >= bound, demand, gap.value, gap.low, gap.high, bound)


def _objectives(challenger: Scored, unit: str, yardstick: Yardstick, guard: Tolerance) -> list[Check]:
    """Check that no objective scores below the SFT policy at the even preference."""
    even = np.full(len(yardstick.objectives), 1 / len(yardstick.objectives))
    gaps = point.differences(challenger.front, challenger.fronts[SFT], even, unit, yardstick.statistics)
    return [
        _not_below(f"{unit}/{name} against SFT at the even preference", gaps[name], guard)
        for name in yardstick.objectives
    ]
