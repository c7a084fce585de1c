"""Lay out a soup for an engine that adds adapters, each times a number, to a base.

Where the coefficients lambda of every preference sum to 1, base + sum_j lambda_j delta_j is (base + delta_1) + sum over
j > 1 of lambda_j (delta_j - delta_1): with the first policy folded into the base, one adapter less is left, and for two
policies one adapter and one number.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bonesoup.generation.soup import Soup
from bonesoup.generation.soup_file import SoupFile
from bonesoup.method.mappings import MAPPINGS
from bonesoup.method.preferences import lattice
from bonesoup.weights.adapters import Adapter, concatenate
from bonesoup.weights.fold import fold
from bonesoup.weights.mixing import read_on

# Parts in which the preferences of a README's table are spaced, by the number of objectives.
PARTS = {2: 10, 3: 4}


@dataclass(frozen=True)
class Recipe:
    """A soup to export.

    Attributes:
        preferences: {name: {objective: weight}}.
        presets: {name: {policy: coefficient}}; policies that are not named have 0.
        place: where it comes from, for people.
    """

    soup: Soup
    preferences: Mapping[str, Mapping[str, float]]
    presets: Mapping[str, Mapping[str, float]]
    place: str

    @property
    def slots(self) -> list[str]:
        """Return the slots of the policies, in the order of coefficients."""
        return [policy.slot for policy in self.soup.policies]

    def named(self) -> dict[str, np.ndarray]:
        """Return {name: lambda [policy]} of every preference and preset."""
        solved = {
            name: self.soup.coefficients([chosen[objective] for objective in self.soup.objectives])
            for name, chosen in self.preferences.items()
        }
        mixed = {
            name: np.array([chosen.get(slot, 0.0) for slot in self.slots]) for name, chosen in self.presets.items()
        }
        return solved | mixed


@dataclass(frozen=True)
class Layout:
    """The base and the adapters that an engine serves.

    Attributes:
        folded: the policy whose weights are in the base; None for the base as it is.
        adapters: to be scaled; all scales of their own are 1.
    """

    recipe: Recipe
    folded: str | None
    first: Adapter | None
    adapters: dict[str, Adapter] = field(repr=False)

    def scales(self, coefficients: np.ndarray) -> dict[str, float]:
        """Return the number for each adapter at coefficients lambda [policy]."""
        pairs = dict(zip(self.recipe.slots, map(float, coefficients), strict=True))
        return {name: pairs[name] for name in self.adapters}


def of_file(file: SoupFile, place: str) -> Recipe:
    """Return the recipe of people's own adapters."""
    return Recipe(file.soup, file.preferences, file.mixtures, place)


def lay_out(recipe: Recipe) -> Layout:
    """Read the policies, and fold the first away if every preference allows it.

    Raises:
        ValueError: see `check`, or an adapter does not fit its base.
    """
    check(recipe.soup)
    soup = recipe.soup
    adapters = read_on(soup.base, {policy.slot: policy.path for policy in soup.policies})
    plain = {name: concatenate([(adapter, 1.0)]) for name, adapter in adapters.items()}
    if not affine(recipe):
        return Layout(recipe, None, None, plain)
    first, *others = recipe.slots
    differences = {name: concatenate([(plain[name], 1.0), (plain[first], -1.0)]) for name in others}
    return Layout(recipe, first, plain[first], differences)


def check(soup: Soup) -> None:
    """Refuse a soup that is no mixture of adapters at every preference.

    Raises:
        ValueError: it is none.
    """
    mapping = MAPPINGS[soup.mapping]
    if soup.mixes != "weights" or len(soup.policies) < 1 or mapping.answers != "any" or mapping.reads:
        raise ValueError(f"soup {soup.method} is no mixture of adapters at any preference: there is nothing to scale")


def affine(recipe: Recipe) -> bool:
    """Return True if the coefficients sum to 1 at every preference of the grid, unlike presets of free weights."""
    soup = recipe.soup
    if len(soup.policies) < 2 or not soup.objectives:
        return False
    return all(abs(soup.coefficients(point).sum() - 1) < 1e-9 for point in grid(recipe))


def grid(recipe: Recipe) -> np.ndarray:
    """Return the preferences of the README's table, [point, objective]."""
    n = len(recipe.soup.objectives)
    return lattice(n, PARTS.get(n, 1)) if n else np.empty((0, 0))


def base_folder(layout: Layout, out: Path) -> Path:
    """Return the base of a layout, written to `out` if a policy is folded into it."""
    if layout.first is None:
        return layout.recipe.soup.base
    fold(layout.recipe.soup.base, layout.first, out)
    return out
