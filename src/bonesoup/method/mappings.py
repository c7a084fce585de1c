"""Mappings: how a preference becomes coefficients over the policies of a soup."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bonesoup.method import basis

# Maps rows [policy m, objective n], a preference [..., n] and a scale [n] or None to coefficients [..., m].
Rule = Callable[[np.ndarray, np.ndarray, np.ndarray | None], np.ndarray]


@dataclass(frozen=True)
class Mapping:
    """A rule from a preference to coefficients.

    Attributes:
        coefficients: the rule.
        words: description of the coefficients lambda for a preference mu, for readers.
        answers: the preferences it can answer: `any`, those that are a row of a policy (`rows`), or `one` answer for
            all of them.
        reads: the model reads the preference in its prompt.
    """

    coefficients: Rule
    words: str
    answers: Literal["any", "rows", "one"] = "any"
    reads: bool = False


def direct(rows: np.ndarray, preference: np.ndarray, scale: np.ndarray | None = None) -> np.ndarray:
    """Use the preference as coefficients, whatever the rows."""
    return preference if scale is None else preference * scale


def lookup(rows: np.ndarray, preference: np.ndarray, scale: np.ndarray | None = None) -> np.ndarray:
    """Choose the policy that was trained on exactly this preference [objective].

    Raises:
        ValueError: there is no such policy.
    """
    match = np.isclose(rows, preference, atol=1e-6).all(axis=1)
    if not match.any():
        raise ValueError(f"no policy for preference {preference.tolist()}; there are policies for {rows.tolist()}")
    return np.eye(len(rows))[match.argmax()] * direct(rows, preference, scale).sum()


def quadratic(rows: np.ndarray, preference: np.ndarray, scale: np.ndarray | None = None) -> np.ndarray:
    """Reach the preference and its second moments; see `coefficients` at degree 2."""
    return basis.coefficients(rows, preference, scale, degree=2)


def moments(rows: np.ndarray, preference: np.ndarray, scale: np.ndarray | None = None) -> np.ndarray:
    """Reach the preference and, as far as that costs no large coefficients, its second moments; see `compromise`."""
    return basis.coefficients(rows, preference, scale, **basis.compromise(rows))


def solving(policies: int, objectives: int) -> str:
    """Return the key of the rule for rows of people's choice: with more of them than objectives, `moments`."""
    return "moments" if policies > objectives else "solve"


def piecewise(rows: np.ndarray, preference: np.ndarray, scale: np.ndarray | None = None) -> np.ndarray:
    """Interpolate linearly between the policies around the preference [objective].

    Args:
        rows: every point of a lattice of preferences, in any order.

    Returns:
        [policy]: at most as many are not 0 as there are objectives, and none is negative.

    Raises:
        ValueError: a point of the lattice that is needed has no policy, or the preference is not non-negative.

    Source: Kuhn's triangulation of the lattice (Kuhn 1960, Some combinatorial lemmas in topology).
    """
    target = direct(rows, preference, scale)
    total = target.sum()
    if total <= 0 or (target < 0).any():
        raise ValueError(f"piecewise interpolation needs weights that are not negative, found {target.tolist()}")
    parts = round(1 / rows[rows > 1e-9].min())
    # In cumulative sums the lattice becomes the integers, and a cell is split by the order of the fractions.
    places = parts * np.cumsum(target / total)[:-1]
    corner = np.floor(places + 1e-9)
    left = np.clip(places - corner, 0, 1)
    order = np.argsort(-left, kind="stable")
    shares = -np.diff([1.0, *left[order], 0.0])
    coefficients = np.zeros(len(rows))
    for k, share in enumerate(shares):
        if share > 1e-9:
            corner_k = corner.copy()
            corner_k[order[:k]] += 1
            coefficients += share * lookup(rows, np.diff([0, *corner_k, parts]) / parts)
    return coefficients * total


def curved(rows: np.ndarray, preference: np.ndarray, scale: np.ndarray | None = None) -> np.ndarray:
    """Mix specialists by the preference, and add what bends the mixture: 4 mu_i mu_j of the correction of i and j.

    A correction is trained from the even soup of two specialists and has their even row. The coefficients are not
    negative for any preference, and do not sum to 1: a correction is added to a mixture that is whole without it.
    """
    target = direct(rows, preference, scale)
    single = np.isclose(rows.max(axis=1), 1)
    # A mixture scaled by s = sum(target) has its bend scaled by s, not by its square.
    pairs = np.where(rows > 1e-9, target, 1).prod(axis=1) * 4 / target.sum()
    return np.where(single, rows @ target, pairs)


def fixed(rows: np.ndarray, preference: np.ndarray, scale: np.ndarray | None = None) -> np.ndarray:
    """Answer every preference by the only policy, or by the base alone."""
    return np.ones(len(rows))


MAPPINGS = {
    "solve": Mapping(basis.coefficients, "solve rows^T lambda = mu"),
    "quadratic": Mapping(
        quadratic, "solve rows^T lambda = mu and, for the rows b_j, sum_j lambda_j b_j b_j^T = mu mu^T"
    ),
    "moments": Mapping(
        moments, "solve rows^T lambda = mu, with second moments near those of mu and coefficients that stay small"
    ),
    "piecewise": Mapping(piecewise, "interpolate linearly between the policies nearest to mu"),
    "curved": Mapping(
        curved, "are mu_i for the specialist of objective i, and 4 mu_i mu_j for the correction of i and j"
    ),
    "direct": Mapping(direct, "are mu itself"),
    "lookup": Mapping(lookup, "choose the policy that was trained for mu", "rows"),
    "single": Mapping(fixed, "are 1", "one"),
    # The prompt asks the base for rewards.
    "context": Mapping(fixed, "are none: there are no policies", reads=True),
    "prompt": Mapping(fixed, "are 1: the policy reads mu in its prompt", reads=True),
    # The base alone.
    "none": Mapping(fixed, "are none: there are no policies", "one"),
}
