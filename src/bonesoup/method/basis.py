"""Weight rows of the policies, and the merging coefficients that reach a preference.

A policy trained on the reward w . r is named by its row w of reward weights. The identity gives the
specialists of Rewarded Soup, `circulant` the backbones of Bone Soup; `coefficients` serves any set of rows.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from bonesoup.method.arrays import finite, matrix

# Past this condition number the coefficients are so large that float32 weights keep no digit of the merge.
_MAX_CONDITION = 1e12
# The circulant of the smallest beta that the paper tries, .6 for two objectives, has an L1 norm of 5.
LOUD = 5.0


@dataclass(frozen=True)
class Conditioning:
    """How much a basis amplifies what is wrong with its policies.

    Attributes:
        condition: largest over smallest singular value of the rows; (n - 1) / (n beta - 1) for a circulant.
        l1: largest L1 norm of the coefficients over all preferences (it is convex, so a vertex has it). Rounding of
            weights in a low precision grows with it.
        l2: largest Euclidean norm: independent training noise of the policies grows with it.
        l1_even: L1 norm at the even preference.
    """

    condition: float
    l1: float
    l2: float
    l1_even: float

    @property
    def loud(self) -> bool:
        """Whether the merge amplifies noise more than any published setting does."""
        return self.l1 > LOUD + 1e-9


def conditioning(rows: ArrayLike) -> Conditioning:
    """Conditioning of rows [policy m, objective n]; raises ValueError as `coefficients` does."""
    rows = matrix(rows, "rows")
    n = rows.shape[1]
    vertices, even = coefficients(rows, np.eye(n)), coefficients(rows, np.full(n, 1 / n))
    return Conditioning(
        condition=float(np.linalg.cond(rows)),
        l1=float(np.abs(vertices).sum(axis=1).max()),
        l2=float(np.linalg.norm(vertices, axis=1).max()),
        l1_even=float(np.abs(even).sum()),
    )


def circulant(n: int, beta: float) -> np.ndarray:
    """Rows of the n backbones: beta on the diagonal, (1 - beta) / (n - 1) elsewhere.

    Returns:
        [policy n, objective n], symmetric, every row on the simplex; beta = 1 is Rewarded Soup's identity.

    Raises:
        ValueError: n below 2, or beta outside (1/n, 1]: at 1/n every backbone is the same policy.

    Source: Bone Soups (Xie et al. 2025, arXiv 2502.10762), the symmetric circulant basis.
    """
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 2:
        raise ValueError(f"a basis needs a whole number of objectives, 2 or more, found {n!r}")
    try:
        beta = float(beta)
    except (TypeError, ValueError):
        raise ValueError(f"beta must be a number in (1/{n}, 1], found {beta!r}") from None
    if not 1 / n < beta <= 1:
        raise ValueError(f"beta must be in (1/{n}, 1] for {n} objectives, found {beta:g}")
    rows = np.full((n, n), (1 - beta) / (n - 1))
    np.fill_diagonal(rows, beta)
    return rows


def basis_rows(kind: str, n: int, beta: float, rows: ArrayLike | None = None) -> np.ndarray:
    """Rows [policy, objective] of a basis by name: `circulant` with beta, `identity`, or the given `rows`."""
    if kind == "rows":
        return matrix(rows, "rows")
    return np.eye(n) if kind == "identity" else circulant(n, beta)


def coefficients(rows: ArrayLike, preference: ArrayLike, scale: ArrayLike | None = None) -> np.ndarray:
    """Merging coefficients lambda with rows^T lambda = scale * preference.

    Exact where there are as many policies as objectives, of least Euclidean norm where there are more. With
    rows on the simplex they sum to sum(scale * preference). They are routinely negative or above 1, and the
    merge is wrong if they are clamped or renormalised. The preference may lie off the simplex, as an
    extrapolated one does.

    Args:
        rows: [policy m, objective n] reward weights the policies were trained on, m >= n.
        preference: [..., objective n].
        scale: [objective n] extrapolation per objective; None is 1 everywhere.

    Returns:
        [..., policy m].

    Raises:
        ValueError: wrong shapes, values that are not finite, or rows that do not span the objectives.

    Source: Bone Soups (arXiv 2502.10762), lambda = B^-1 mu, as a solve so that other bases work too.
    """
    rows = matrix(rows, "rows")
    target = finite(preference, "preference")
    m, n = rows.shape
    if m < n:
        raise ValueError(f"{m} policies cannot reach every preference over {n} objectives: train at least {n}")
    if target.ndim == 0 or target.shape[-1] != n:
        raise ValueError(f"preference must be [..., {n}] for {n} objectives, found shape {list(target.shape)}")
    if scale is not None:
        scale = finite(scale, "scale")
        if scale.shape != (n,):
            raise ValueError(f"scale must be [{n}], one value per objective, found shape {list(scale.shape)}")
        target = target * scale
    singular = np.linalg.svd(rows, compute_uv=False)
    if singular[-1] * _MAX_CONDITION <= singular[0]:
        raise ValueError(
            f"the rows are singular (singular values {singular[0]:.3g} to {singular[-1]:.3g}): policies of "
            "linearly dependent rewards cannot reach every preference; choose a larger beta or other rows"
        )
    flat = target.reshape(-1, n).T
    solved = np.linalg.solve(rows.T, flat) if m == n else np.linalg.pinv(rows.T) @ flat
    return solved.T.reshape(*target.shape[:-1], m)
