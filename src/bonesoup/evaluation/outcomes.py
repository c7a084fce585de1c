"""A preference asked for by outcome: lower bounds on mean scores, and the objective to be as high as they allow.

Solved on the measured front (out/metrics/fronts.json); docs/steering.md derives the rule.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from bonesoup.evaluation.units import UNITS
from bonesoup.method.preferences import format_weights

MAXIMIZE = "maximize"
_FORM = 'such as {"harmless": ">= 0.2", "maximize": "helpful"}, or as text harmless>=0.2,maximize=helpful'


@dataclass(frozen=True)
class Outcome:
    """A request for mean scores.

    Attributes:
        bounds: objective -> lowest acceptable mean, in the unit of the front.
        maximize: the objective to raise as far as the bounds allow.
    """

    bounds: dict[str, float]
    maximize: str

    @property
    def text(self) -> str:
        """Write it as 'harmless >= 0.2, maximize helpful'."""
        return ", ".join([*_bounds(self.bounds), f"{MAXIMIZE} {self.maximize}"])


@dataclass(frozen=True)
class Promise:
    """The measured preference that answers an outcome.

    Attributes:
        asked: the outcome, as text.
        preference: weights by objective.
        mean: measured means by objective.
        floor: lower limits of the means by objective, which hold for the whole front at once; None for none.
        unit: of all scores, a key of UNITS.
        confidence: that the limits hold for new prompts of the same kind.
        prompts: number of prompts that were measured.
    """

    asked: str
    preference: dict[str, float]
    mean: dict[str, float]
    floor: dict[str, float | None]
    unit: str
    confidence: float
    prompts: int

    def plain(self) -> dict:
        """Return everything except the preference."""
        terms = asdict(self)
        del terms["preference"]
        return terms

    @property
    def text(self) -> str:
        """Write preference, limits and unit in a line."""
        floors = {name: _down(value) for name, value in self.floor.items() if value is not None}
        return f"{format_weights(self.preference)}: {', '.join(_bounds(floors))}; {_terms(self)}"


class Unreachable(ValueError):
    """No measured preference can promise the bounds; the message names the nearest that can be promised."""


def is_outcome(value: Mapping | str) -> bool:
    """Return True if a preference is stated as an outcome, not by weights or name."""
    if isinstance(value, str):
        return bool(re.search(rf"[<>]|(^|[,+;]) *{MAXIMIZE} *[=:]", value))
    return any(isinstance(each, str) for each in value.values())


def read_outcome(value: Mapping[str, str] | str, objectives: list[str]) -> Outcome:
    """Read {"harmless": ">= 0.2", "maximize": "helpful"}, or the same as text 'harmless>=0.2,maximize=helpful'.

    Raises:
        ValueError: neither form, an unknown objective, no objective to maximize, or a bound that is not `>= NUMBER`.
    """
    pairs = _pairs(value) if isinstance(value, str) else dict(value)
    if MAXIMIZE not in pairs:
        raise ValueError(f"the outcome names no objective to {MAXIMIZE}: write it {_FORM}")
    maximize = str(pairs.pop(MAXIMIZE)).strip()
    if unknown := sorted({*pairs, maximize} - set(objectives)):
        raise ValueError(f"the outcome names unknown objectives {', '.join(unknown)} (known: {', '.join(objectives)})")
    return Outcome({name: _bound(name, bound) for name, bound in pairs.items()}, maximize)


def solve(outcome: Outcome, front: dict | None, method: str) -> Promise:
    """Choose the measured preference of highest mean in one objective among those whose limits meet the bounds.

    Args:
        front: as `evaluation.point.measured` writes it; None if nothing was measured.
        method: the method to search the points of.

    Raises:
        Unreachable: no point meets the bounds.
        ValueError: the method was not measured, or without limits.
    """
    points = (front or {"methods": {}})["methods"].get(method)
    if not points:
        raise ValueError("this soup has no measured front: an outcome cannot be promised, only weights can be given")
    if "floor" not in points[0]:
        raise ValueError(
            "the front was measured without the limits that an outcome needs: run `bonesoup stage report` again, and "
            "register the soup again"
        )
    promises = [_promise(outcome, front, point) for point in points]
    meeting = [each for each in promises if _shortfall(outcome, each) <= 0]
    if meeting:
        return max(meeting, key=lambda each: each.mean[outcome.maximize])
    asked = " and ".join(_bounds(outcome.bounds))
    nearest = min(promises, key=lambda each: _shortfall(outcome, each))
    if math.isinf(_shortfall(outcome, nearest)):
        raise Unreachable(f"{asked} cannot be promised, nor can any other bound: {nearest.prompts} prompts are too few")
    possible = " and ".join(_bounds({name: _down(nearest.floor[name]) for name in outcome.bounds}))
    raise Unreachable(
        f"{asked} cannot be promised: the nearest that can is {possible}, at {format_weights(nearest.preference)}; "
        f"{_terms(nearest)}"
    )


def _promise(outcome: Outcome, front: dict, point: dict) -> Promise:
    preference, mean, floor = (
        dict(zip(front["objectives"], point[part], strict=True)) for part in ("preference", "mean", "floor")
    )
    return Promise(outcome.text, preference, mean, floor, front["unit"], front["confidence"], front["prompts"])


def _shortfall(outcome: Outcome, promise: Promise) -> float:
    """Measure how far the limits are from the bounds, at worst; not above 0 if all are met."""
    gaps = [
        math.inf if promise.floor[name] is None else bound - promise.floor[name]
        for name, bound in outcome.bounds.items()
    ]
    return max(gaps, default=0.0)


def _pairs(text: str) -> dict[str, str]:
    pairs = {}
    for part in re.split("[,+;]", text):
        match = re.fullmatch(r"\s*([^\s<>=:]+)\s*(?:[=:]\s*)?(.*?)\s*", part)
        if not match or not match[2]:
            raise ValueError(f"{part.strip()!r} is no part of an outcome: write it {_FORM}")
        if match[1] in pairs:
            raise ValueError(f"the outcome {text!r} names {match[1]} twice")
        pairs[match[1]] = match[2]
    return pairs


def _bound(name: str, text: str) -> float:
    match = re.fullmatch(r">=\s*([-+.\deE]+)", str(text).strip())
    try:
        value = float(match[1])
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(
            f"the bound of {name} is {text!r}, expected '>= NUMBER': scores are better when they are higher"
        )
    return value


def _down(value: float) -> float:
    """Round down to three digits, so that the bound that is shown can be asked for."""
    return math.floor(value * 1000) / 1000


def _bounds(bounds: Mapping[str, float]) -> list[str]:
    return [f"{name} >= {bound:g}" for name, bound in bounds.items()]


def _terms(promise: Promise) -> str:
    return (
        f"scores are the {UNITS[promise.unit]} in standard deviations of the SFT model, the limits hold with "
        f"{promise.confidence:.0%} confidence ({promise.prompts} prompts)"
    )
