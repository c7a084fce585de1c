"""The reward weights that a policy learns at each prompt, and how its adapters answer there."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from bonesoup.training.stack import Mixture

# Reward weights [objective].
Row = Sequence[float]


class Goal(Protocol):
    """The goal of a policy.

    Attributes:
        adapters: number of adapters that the policy consists of.
    """

    adapters: int

    def rows(self, step: int, prompts: int) -> list[Row]:
        """Return the reward weights [prompt, objective] of a step, counted from 0."""

    def mixture(self, first: int, rows: Sequence[Row]) -> Mixture:
        """Return how prompts with the weights `rows` are answered by adapters from the place `first` in the stack."""


@dataclass(frozen=True)
class Fixed:
    """One row for every prompt, learned by one adapter."""

    row: Row
    adapters = 1

    def rows(self, step: int, prompts: int) -> list[Row]:
        return [self.row] * prompts

    def mixture(self, first: int, rows: Sequence[Row]) -> Mixture:
        return Mixture((first,))


@dataclass(frozen=True)
class EveryPreference:
    """A preference for each prompt of a step, drawn uniformly from the simplex; it weighs one adapter per objective."""

    seed: int
    adapters: int

    def rows(self, step: int, prompts: int) -> list[Row]:
        return np.random.default_rng([self.seed, step]).dirichlet(np.ones(self.adapters), prompts).tolist()

    def mixture(self, first: int, rows: Sequence[Row]) -> Mixture:
        return Mixture(tuple(range(first, first + self.adapters)), rows)
