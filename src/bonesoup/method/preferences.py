"""Preferences: points of the simplex over the objectives."""

import math
import re
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike

from bonesoup.method.arrays import matrix

# A threshold and a weight that are equal on paper may differ by rounding.
_SLACK = 1e-9


def lattice(n: int, parts: int) -> np.ndarray:
    """List every preference over n objectives in steps of 1 / parts.

    Integer counts are divided once, so 3/10 is always the float 0.3, and the grid has exactly
    C(parts + n - 1, n - 1) points (11 for n=2, parts=10; 15 for n=3, parts=4).

    Returns:
        [grid g, objective n] in ascending order of the first weight, then the second, ...

    Raises:
        ValueError: n or parts is not a whole number of 1 or more, or the grid is too large to enumerate.
    """
    for name, value in (("n", n), ("parts", parts)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
            raise ValueError(f"{name} must be a whole number of 1 or more, found {value!r}")
    if (size := math.comb(int(parts + n - 1), int(n - 1))) > 1_000_000:
        raise ValueError(f"a lattice of {n} objectives in {parts} parts has {size} points: take fewer parts")
    # Stars and bars: n - 1 bars cut a row of parts + n - 1 places into n counts.
    places = parts + n - 1
    bars = np.array(list(combinations(range(places), n - 1)), dtype=int).reshape(size, n - 1)
    edges = np.pad(bars, ((0, 0), (1, 1)), constant_values=((0, 0), (-1, places)))
    return (np.diff(edges, axis=1) - 1) / parts


def interior(preferences: ArrayLike, threshold: float) -> np.ndarray:
    """Mark the preferences that give every objective at least `threshold`.

    The paper's claim is about these; at the vertices Rewarded Soup's specialists are optimal by construction.

    Args:
        preferences: [grid g, objective n].
        threshold: smallest weight, in [0, 1]; 1e-9 below it still counts.

    Returns:
        bool [grid g].

    Raises:
        ValueError: preferences is not a finite [g, n] array, or threshold is outside [0, 1].
    """
    preferences = matrix(preferences, "preferences")
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold must be in [0, 1], found {threshold}")
    return (preferences >= threshold - _SLACK).all(axis=1)


def parse_weights(text: str, known: list[str]) -> dict[str, float]:
    """Read 'a=0.7,b=0.3', or without commas 'a:0.7+b:0.3', as {'a': 0.7, 'b': 0.3}.

    Raises:
        ValueError: neither form, or an objective twice.
    """
    try:
        pairs = [part.replace(":", "=").split("=") for part in re.split("[,+;]", text)]
        weights = {name.strip(): float(value) for name, value in pairs}
    except ValueError:
        raise ValueError(
            f"preference {text!r} is neither a named preference ({', '.join(known) or 'none defined'}) "
            "nor of the form helpful=0.7,harmless=0.3"
        ) from None
    if len(weights) < len(pairs):
        raise ValueError(f"preference {text!r} names an objective twice")
    return weights


def format_weights(weights: Mapping[str, float]) -> str:
    """Write weights as `parse_weights` reads them: 'a=0.7,b=0.3'."""
    return ",".join(f"{name}={weight:g}" for name, weight in weights.items())


def preference_faults(weights: dict[str, float], objectives: list[str]) -> list[str]:
    """List the reasons why `weights` is no preference over `objectives`; empty if it is one."""
    faults = []
    if unknown := sorted(set(weights) - set(objectives)):
        faults.append(f"unknown objectives {', '.join(unknown)} (known: {', '.join(objectives)})")
    if missing := [name for name in objectives if name not in weights]:
        faults.append(f"no weight for {', '.join(missing)}")
    values = list(weights.values())
    if any(not math.isfinite(value) or value < 0 for value in values):
        faults.append("weights must be finite and not negative")
    elif abs(sum(values) - 1) > 1e-6:
        faults.append(f"weights sum to {sum(values):.9g}, not 1")
    return faults


def adapter_faults(weights: dict[str, float], adapters: Collection[str]) -> list[str]:
    """List the reasons why `weights` are no weights of `adapters`; empty if they are. Any real numbers are allowed."""
    faults = []
    for name, value in weights.items():
        if name not in adapters:
            near = get_close_matches(name, adapters, 1, 0.6)
            hint = f": did you mean {near[0]}?" if near else f"; there are: {', '.join(adapters) or 'none'}"
            faults.append(f"no adapter {name!r}{hint}")
        elif not math.isfinite(value):
            faults.append(f"the weight of {name} is {value}, expected a finite number")
    return faults
