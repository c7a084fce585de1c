"""Mappings: how a preference becomes coefficients over the policies of a soup."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bonesoup.method import basis

# Rows [policy m, objective n], a preference [..., n] and a scale [n] or None, to coefficients [..., m].
Rule = Callable[[np.ndarray, np.ndarray, np.ndarray | None], np.ndarray]


@dataclass(frozen=True)
class Mapping:
    """One way from a preference to coefficients.

    Attributes:
        coefficients: the rule.
        answers: the preferences it can answer: `any`, those that are a row of a policy (`rows`), or `one` answer for
            all of them.
    """

    coefficients: Rule
    answers: Literal["any", "rows", "one"] = "any"


def direct(rows: np.ndarray, preference: np.ndarray, scale: np.ndarray | None = None) -> np.ndarray:
    """Take the preference itself for the coefficients, whatever the rows."""
    return preference if scale is None else preference * scale


def lookup(rows: np.ndarray, preference: np.ndarray, scale: np.ndarray | None = None) -> np.ndarray:
    """Choose the policy that was trained on this very preference [objective].

    Raises:
        ValueError: there is none.
    """
    match = np.isclose(rows, preference, atol=1e-6).all(axis=1)
    if not match.any():
        raise ValueError(f"no policy for preference {preference.tolist()}; there are policies for {rows.tolist()}")
    return np.eye(len(rows))[match.argmax()] * direct(rows, preference, scale).sum()


def fixed(rows: np.ndarray, preference: np.ndarray, scale: np.ndarray | None = None) -> np.ndarray:
    """Answer every preference by the one policy there is, or by the base alone."""
    return np.ones(len(rows))


MAPPINGS = {
    "solve": Mapping(basis.coefficients),
    "direct": Mapping(direct),
    "lookup": Mapping(lookup, "rows"),
    "single": Mapping(fixed, "one"),
    # No policies: the base reads the preference in its prompt.
    "context": Mapping(fixed),
    # No policies: the base alone.
    "none": Mapping(fixed, "one"),
}
