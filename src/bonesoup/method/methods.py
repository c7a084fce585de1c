"""The methods under comparison: the policies each trains, how it answers a preference, and how it is shown.

Everything that distinguishes methods reads this table. A new method is a record here, a separate module if it needs
one, and its paragraph in docs/rivals.md.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from bonesoup.method.basis import lattice_rows
from bonesoup.method.mappings import MAPPINGS, solving


@dataclass(frozen=True, eq=False)
class Plan:
    """The inputs that determine the weight rows of a run's policies.

    Attributes:
        backbones: [backbone, objective n], the rows of the basis.
        oracles: [oracle, objective n], preferences with a separate policy.
    """

    backbones: np.ndarray
    oracles: np.ndarray

    @classmethod
    def of(cls, backbones: ArrayLike, oracles: ArrayLike) -> "Plan":
        """Make a plan; without oracles, an empty list will do."""
        backbones = np.asarray(backbones, float)
        return cls(backbones, np.asarray(oracles, float).reshape(-1, backbones.shape[1]))

    @property
    def n(self) -> int:
        """Number of objectives."""
        return self.backbones.shape[1]


@dataclass(frozen=True)
class Training:
    """One policy to train.

    Attributes:
        row: reward weights [objective].
        steps: optimiser steps of its schedule.
        start: slots whose soup at this row it starts from; empty for the SFT policy.
        together: slots whose adapters, this one among them, are mixed in training and share every step; empty for a
            policy that is trained for its row alone.
        reads: the preferences that its prompts state: the `own` ones, `others`, drawn independently of those that
            score (a control), or none.
    """

    row: list[float]
    steps: int
    start: tuple[str, ...] = ()
    together: tuple[str, ...] = ()
    reads: Literal["own", "others"] | None = None


@dataclass(frozen=True)
class Policies:
    """A kind of policies, trained in the slots <kind>-1, <kind>-2, ...

    Attributes:
        rows: the rows [policy, objective] of a plan.
        lengths: relative lengths of their schedules [policy]; None means equal.
        starts: number of policies that start from the SFT policy, the first ones; the others start from soups of those.
            None is all.
        total: the policies share the method's total of updates; if False, each gets a full schedule.
        together: all of them are updated in each step of one schedule, which takes the method's total of updates.
        reads: see `Training`; such a policy takes the method's total too.
    """

    kind: str
    rows: Callable[[Plan], np.ndarray]
    lengths: Callable[[Plan], list[int]] | None = None
    starts: Callable[[Plan], int] | None = None
    total: bool = True
    together: bool = False
    reads: Literal["own", "others"] | None = None

    def slots(self, plan: Plan) -> list[str]:
        """Name every policy of the kind."""
        return [f"{self.kind}-{k}" for k in range(1, len(self.rows(plan)) + 1)]

    def trainings(self, plan: Plan, steps: int, total: int | None) -> dict[str, Training]:
        """Share out the updates: slot -> what to train.

        Args:
            steps: of the longest schedule, where there is no total.
            total: updates of all policies together.

        Raises:
            ValueError: the total does not divide.
        """
        slots = self.slots(plan)
        if not slots:
            return {}
        # Rounded, so that rows equal up to float rounding are one policy.
        rows = np.round(self.rows(plan), 9).tolist()
        if self.together or self.reads:
            count, company = total or steps * plan.n, tuple(slots) if self.together else ()
            return {
                slot: Training(row, count, together=company, reads=self.reads)
                for slot, row in zip(slots, rows, strict=True)
            }
        lengths = np.array(self.lengths(plan) if self.lengths else [1] * len(slots))
        if total is None or not self.total:
            each = [max(1, round(steps * length / lengths.max())) for length in lengths]
        else:
            unit = int(lengths.sum() // np.gcd.reduce(lengths))
            if total % unit:
                raise ValueError(
                    f"{total} updates do not divide among {len(slots)} policies ({slots[0]} to {slots[-1]}): "
                    f"take a multiple of {unit}, such as {max(1, round(total / unit)) * unit}"
                )
            each = (total * lengths // lengths.sum()).tolist()
        first = self.starts(plan) if self.starts else len(slots)
        return {
            slot: Training(row, count, () if k < first else tuple(slots[:first]))
            for k, (slot, row, count) in enumerate(zip(slots, rows, each, strict=True))
        }


SPECIALISTS = Policies("specialist", lambda plan: np.eye(plan.n))
BACKBONES = Policies("backbone", lambda plan: plan.backbones)
LATTICE = Policies("lattice", lambda plan: lattice_rows(plan.n, 2))
# Specialists first, then a correction for each pair of objectives, half as long.
CURVE = Policies(
    "curve",
    lambda plan: np.vstack([np.eye(plan.n), [row for row in lattice_rows(plan.n, 2) if row.max() < 1]]),
    lengths=lambda plan: [2] * plan.n + [1] * (plan.n * (plan.n - 1) // 2),
    starts=lambda plan: plan.n,
)
# An adapter for each objective, mixed by the preference of each prompt in training.
CLP = Policies("clp", lambda plan: np.eye(plan.n), together=True)
# One policy for all preferences; its row is their mean.
PROMPT = Policies("prompt", lambda plan: np.full((1, plan.n), 1 / plan.n), reads="own")
SHUFFLED = Policies("shuffled", lambda plan: np.full((1, plan.n), 1 / plan.n), reads="others")
ORACLES = Policies("oracle", lambda plan: plan.oracles, total=False)


@dataclass(frozen=True)
class Method:
    """A method under comparison.

    Attributes:
        key: name in settings, in file names and on the command line.
        title: name for readers.
        colours: on a light and on a dark background.
        marker: shape of its points, as Matplotlib's letter.
        policies: the policies it trains in slots; None if it trains none.
        mapping: key of MAPPINGS: the rule from preference to coefficients.
        mixes: objects that the coefficients mix: the `weights` of the policies, or their next-token `distributions`.
        stage: the stage that trains a further model, if the method needs more than policies.
    """

    key: str
    title: str
    colours: tuple[str, str]
    marker: str
    policies: Policies | None
    mapping: str
    mixes: Literal["weights", "distributions"] = "weights"
    stage: str | None = None

    @property
    def answers(self) -> str:
        """Return the preferences it can answer: `any`, `rows` or `one`; see `Mapping`."""
        return MAPPINGS[self.mapping].answers

    def mapping_of(self, policies: int, objectives: int) -> str:
        """Return the key of its rule for so many policies; people choose the rows of backbones."""
        chosen = self.policies == BACKBONES and self.mapping == "solve"
        return solving(policies, objectives) if chosen else self.mapping

    @property
    def exportable(self) -> bool:
        """Return True if one merged adapter can stand for its answer to a preference."""
        return self.policies is not None and self.mixes == "weights" and not MAPPINGS[self.mapping].reads

    @property
    def servable(self) -> bool:
        """Return True if it can be registered and served as a soup that answers any preference."""
        return self.exportable and self.answers == "any"


_TABLE = (
    Method("sft", "SFT", ("#6e6e6e", "#a6a6a6"), "X", None, "none"),
    Method("rewarded", "Rewarded Soup", ("#d55e00", "#f58742"), "s", SPECIALISTS, "solve"),
    Method("bone", "Bone Soup", ("#0072b2", "#5cb2ec"), "o", BACKBONES, "solve"),
    Method("lattice", "Lattice Soup", ("#7b3fa0", "#c89be8"), "h", LATTICE, "quadratic"),
    Method("piecewise", "Lattice, piecewise", ("#8c6d31", "#d2b47a"), "<", LATTICE, "piecewise"),
    Method("least-norm", "Lattice, least norm", ("#5f8700", "#a9d35e"), ">", LATTICE, "solve"),
    Method("curved", "Curved Soup", ("#c2185b", "#ff8ab3"), "*", CURVE, "curved"),
    Method("unmapped", "Bone Soup, λ = μ", ("#3f8fc2", "#9ad3f5"), "v", BACKBONES, "direct"),
    Method("mod", "MOD", ("#b8588f", "#e39cc4"), "^", SPECIALISTS, "solve", mixes="distributions"),
    Method("clp", "CLP", ("#00707a", "#4fc3cc"), "p", CLP, "direct"),
    Method("prompt", "Preference in the prompt", ("#4a5bd4", "#9aa6f7"), "d", PROMPT, "prompt"),
    Method("shuffled", "In the prompt, shuffled", ("#7a7f99", "#b7bbcf"), "H", SHUFFLED, "prompt"),
    Method("ric", "RiC", ("#a86f00", "#f0b840"), "P", None, "context", stage="ric"),
    Method("oracle", "Oracle (MORLHF)", ("#008f68", "#35c79b"), "D", ORACLES, "lookup"),
)
METHODS = {method.key: method for method in _TABLE}

# The policy that all others start from and are compared with.
SFT = "sft"
# The method that differences and ratios are taken against.
BASELINE = "rewarded"
# The method in the headline and the one registered, unless register.method names another.
MAIN = "bone"
# As register.method: the method that wins on validation prompts.
AUTO = "auto"
# A policy trained for each preference alone.
ORACLE = "oracle"


def title(key: str) -> str:
    """Return the name for readers; a key that is not in the table is returned as it is."""
    return METHODS[key].title if key in METHODS else key


def servable(keys: Iterable[str]) -> list[str]:
    """List the methods that can be registered and served, the one to keep in doubt first."""
    return sorted((key for key in keys if METHODS[key].servable), key=lambda key: (key != MAIN, key != BASELINE))


def method_slots(key: str, plan: Plan) -> list[str]:
    """List the slots of the policies that a method is made of."""
    policies = METHODS[key].policies
    return policies.slots(plan) if policies else []


def trainings(keys: Iterable[str], plan: Plan, steps: int, total: int | None = None) -> dict[str, Training]:
    """Map every slot that any of the methods needs to its training; see `Policies.trainings`."""
    kinds = dict.fromkeys(METHODS[key].policies for key in keys)
    return {slot: each for kind in kinds if kind for slot, each in kind.trainings(plan, steps, total).items()}
