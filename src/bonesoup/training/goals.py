"""The reward weights that a policy learns at each prompt, what it reads there, and how its adapters answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from bonesoup.generation.reward_context import reward_tokens, stated
from bonesoup.training.stack import Mixture

# Reward weights [objective].
Row = Sequence[float]


class Goal(Protocol):
    """The goal of a policy; where a subclass says nothing else, one adapter answers the prompts as they are.

    Attributes:
        adapters: number of adapters that the policy consists of.
        silent: tokens that the policy reads and never writes.
    """

    adapters: int = 1
    silent: Sequence[str] = ()

    def rows(self, step: int, prompts: int) -> list[Row]:
        """Return the reward weights [prompt, objective] of a step, counted from 0."""

    def contexts(self, step: int, rows: Sequence[Row]) -> list[str]:
        """Return the text appended to each prompt of a step with the weights `rows`; empty for none."""
        return []

    def mixture(self, first: int, rows: Sequence[Row]) -> Mixture:
        """Return how prompts with the weights `rows` are answered by adapters from the place `first` in the stack."""
        return Mixture((first,))


@dataclass(frozen=True)
class Fixed(Goal):
    """One row for every prompt."""

    row: Row

    def rows(self, step: int, prompts: int) -> list[Row]:
        return [self.row] * prompts


@dataclass(frozen=True)
class EveryPreference(Goal):
    """A preference for each prompt of a step; it weighs one adapter per objective."""

    seed: int
    adapters: int

    def rows(self, step: int, prompts: int) -> list[Row]:
        return drawn([self.seed, step], prompts, self.adapters)

    def mixture(self, first: int, rows: Sequence[Row]) -> Mixture:
        return Mixture(tuple(range(first, first + self.adapters)), rows)


@dataclass(frozen=True)
class Stated(Goal):
    """A preference for each prompt of a step, stated in the prompt.

    Attributes:
        others: state preferences that are drawn independently of those that score, as a control.
    """

    seed: int
    objectives: Sequence[str]
    others: bool = False

    @property
    def silent(self) -> Sequence[str]:
        return reward_tokens(self.objectives)

    def rows(self, step: int, prompts: int) -> list[Row]:
        return drawn([self.seed, step], prompts, len(self.objectives))

    def contexts(self, step: int, rows: Sequence[Row]) -> list[str]:
        told = drawn([self.seed, step, 1], len(rows), len(self.objectives)) if self.others else rows
        return stated(self.objectives, told)


def drawn(key: Sequence[int], count: int, objectives: int) -> list[Row]:
    """Draw preferences [count, objective] uniformly from the simplex; the same key draws the same ones."""
    return np.random.default_rng(key).dirichlet(np.ones(objectives), count).tolist()
