"""Weight rows of the policies, and the merging coefficients that reach a preference.

A policy trained on the reward w . r is named by its row w of reward weights. The identity gives the
specialists of Rewarded Soup, `circulant` the backbones of Bone Soup; `coefficients` serves any set of rows.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from bonesoup.method.arrays import check_objectives, finite, matrix
from bonesoup.method.preferences import lattice

# Beyond this condition number the coefficients are so large that float32 weights keep no digit of the merge.
_MAX_CONDITION = 1e12
# The circulant of the paper's smallest beta, .6 for two objectives, has an L1 norm of 5.
LOUD = 5.0
# Twice as much is refused: at 10, an error of a tenth in every policy is as large as a policy.
DEAFENING = 10.0
# Weighs the size of coefficients against missed second moments, for rows that cannot be relied on to meet them: enough
# for three rows between .7 and .3 to amplify noise about as much as a Bone Soup of beta .7 does, and little enough for
# rows at the vertices and midpoints to be used nearly as by degree 2.
NOISE = 0.03


@dataclass(frozen=True)
class Conditioning:
    """The amplification of its policies' errors by a basis.

    Attributes:
        condition: largest over smallest singular value of the rows; (n - 1) / (n beta - 1) for a circulant.
        l1: largest L1 norm of the coefficients over all preferences. Rounding errors of low-precision weights grow
            with it.
        l2: largest Euclidean norm: independent training noise of the policies grows with it.
        l1_even: L1 norm at the even preference.
    """

    condition: float
    l1: float
    l2: float
    l1_even: float

    @property
    def loud(self) -> bool:
        """Return True if the merge amplifies noise more than any published setting does."""
        return self.l1 > LOUD + 1e-9

    @property
    def fault(self) -> str | None:
        """Say why a soup of these rows is refused; None if it is not."""
        if self.l1 <= DEAFENING + 1e-9:
            return None
        return (
            f"the coefficients reach an L1 norm of {self.l1:.3g}, and what is wrong with the policies is amplified as "
            f"much; at most {DEAFENING:g} is accepted: take a larger beta, or rows that point further apart"
        )


def conditioning(rows: ArrayLike, degree: int = 1, noise: float = 0.0) -> Conditioning:
    """Measure the conditioning of rows [policy m, objective n]; arguments and errors are those of `coefficients`."""
    rows = matrix(rows, "rows")
    n = rows.shape[1]
    # At degree 1 coefficients are linear in the preference, so a vertex has the largest norm.
    preferences = np.eye(n) if degree == 1 else lattice(n, 20 if n < 4 else 8)
    at = coefficients(rows, preferences, degree=degree, noise=noise)
    even = coefficients(rows, np.full(n, 1 / n), degree=degree, noise=noise)
    return Conditioning(
        condition=float(np.linalg.cond(rows)),
        l1=float(np.abs(at).sum(axis=1).max()),
        l2=float(np.linalg.norm(at, axis=1).max()),
        l1_even=float(np.abs(even).sum()),
    )


def compromise(rows: np.ndarray) -> dict[str, float]:
    """Return `degree` and `noise` of `coefficients` for rows [policy m, objective n] of people's choice.

    With more rows than objectives a preference leaves room, which goes to its second moments.
    """
    return {"degree": 2, "noise": NOISE} if len(rows) > rows.shape[1] else {}


def circulant(n: int, beta: float) -> np.ndarray:
    """Return the rows of the n backbones: beta on the diagonal, (1 - beta) / (n - 1) elsewhere.

    Returns:
        [policy n, objective n], symmetric, every row on the simplex; beta = 1 is Rewarded Soup's identity.

    Raises:
        ValueError: n below 2, or beta outside (1/n, 1]: at 1/n every backbone is the same policy.

    Source: Bone Soups (Xie et al. 2025, arXiv 2502.10762), the symmetric circulant basis.
    """
    check_objectives(n)
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
    """Return the rows [policy, objective] of a basis: `circulant` with beta, `identity`, or the given `rows`."""
    if kind == "rows":
        return matrix(rows, "rows")
    return np.eye(n) if kind == "identity" else circulant(n, beta)


def lattice_rows(n: int, degree: int = 1, inset: float = 1.0) -> np.ndarray:
    """Place policies on a lattice of preferences, drawn together towards the even preference c.

    Rows are c + inset (lattice(n, degree) - c). Degree 1 gives the specialists of Rewarded Soup, or with an inset of
    (n beta - 1) / (n - 1) the backbones of Bone Soup; degree 2 adds the midpoints of the edges, n (n + 1) / 2 policies.

    Args:
        n: objectives, 2 or more.
        degree: parts of the lattice.
        inset: in (0, 1].

    Returns:
        [policy, objective n], every row on the simplex, the first objective's vertex first.

    Raises:
        ValueError: n, degree or inset out of range.
    """
    check_objectives(n)
    if isinstance(degree, bool) or not isinstance(degree, int | np.integer) or degree < 1:
        raise ValueError(f"degree must be a whole number of 1 or more, found {degree!r}")
    if isinstance(inset, bool) or not isinstance(inset, int | float | np.number) or not 0 < inset <= 1:
        raise ValueError(f"inset must be in (0, 1], found {inset!r}: at 0 every policy is the same")
    return inset * lattice(n, degree)[::-1] + (1 - inset) / n


def coefficients(
    rows: ArrayLike,
    preference: ArrayLike,
    scale: ArrayLike | None = None,
    degree: int = 1,
    noise: float = 0.0,
) -> np.ndarray:
    """Solve for merging coefficients lambda with rows^T lambda = t, where t = scale * preference.

    With rows on the simplex they sum to sum(t). They are routinely negative or above 1, and the merge is wrong if they
    are clamped or renormalised. The preference may lie off the simplex, as an extrapolated preference does.

    Where there are more policies than objectives, the degree says what the freedom is spent on. Degree 1 takes the
    solution of least Euclidean norm. Degree 2 minimises |missed|^2 + noise |lambda|^2, where missed = t t^T / sum(t) -
    sum_j lambda_j b_j b_j^T are the second moments that the policies b_j leave out: what a soup misses to second order.

    Args:
        rows: [policy m, objective n] reward weights the policies were trained on, m >= n.
        preference: [..., objective n].
        scale: [objective n] extrapolation per objective; None is 1 everywhere.
        degree: 1 or 2.
        noise: degree 2 only: what a unit of |lambda|^2 costs. At 0 the moments are met exactly, and as it grows the
            solution goes to that of degree 1.

    Returns:
        [..., policy m].

    Raises:
        ValueError: wrong shapes, values that are not finite, rows that do not span the objectives, or, at degree 2
            without noise, rows that cannot meet every second moment.

    Source: Bone Soups (arXiv 2502.10762), lambda = B^-1 mu, as a solve so that other bases work too; degree 2 is
    docs/method.md's.
    """
    rows, target = _checked(rows, preference, scale)
    if degree not in (1, 2):
        raise ValueError(f"degree must be 1 or 2, found {degree!r}")
    if not 0 <= noise < np.inf:
        raise ValueError(f"noise must be finite and not negative, found {noise!r}")
    if noise and degree == 1:
        raise ValueError(f"noise is weighed against second moments, which only degree 2 looks at; found {noise:g}")
    m, n = rows.shape
    flat = target.reshape(-1, n).T
    solved = np.linalg.solve(rows.T, flat) if m == n else np.linalg.pinv(rows.T) @ flat
    if degree == 2:
        solved = _second(rows, flat, solved, noise)
    return solved.T.reshape(*target.shape[:-1], m)


def _checked(rows: ArrayLike, preference: ArrayLike, scale: ArrayLike | None) -> tuple[np.ndarray, np.ndarray]:
    """Return rows [policy, objective] and target [..., objective], or raise as `coefficients` says."""
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
    return rows, target


def _moments(rows: np.ndarray) -> np.ndarray:
    """Return b b^T of every row b [..., objective n] as [..., n (n + 1) / 2], with the Frobenius norm of the matrix."""
    first, second = np.triu_indices(rows.shape[-1])
    return rows[..., first] * rows[..., second] * np.where(first == second, 1, np.sqrt(2))


def _second(rows: np.ndarray, target: np.ndarray, least: np.ndarray, noise: float) -> np.ndarray:
    """Move within what leaves rows^T lambda alone, from the least norm [policy, preference] to that of degree 2."""
    total = target.sum(axis=0)
    if (total <= 0).any():
        raise ValueError(f"degree 2 needs a preference whose weights have a positive sum, found {total.min():g}")
    moments = _moments(rows).T
    rank, needed = np.linalg.matrix_rank(moments, rtol=1e-9), len(moments)
    if rank < needed and not noise:
        raise ValueError(
            f"these {len(rows)} rows reach {rank} of the {needed} second moments of {rows.shape[1]} objectives, and "
            "degree 2 needs all of them: add rows, such as midpoints of the edges, or take degree 1"
        )
    free = np.linalg.svd(rows.T)[2][rows.shape[1] :].T
    missed = _moments(target.T).T / total - moments @ least
    # Ridge regression on the free directions; the least-norm solution is orthogonal to them. By singular values, so
    # that it is exact without noise.
    u, s, v = np.linalg.svd(moments @ free, full_matrices=False)
    kept = s > 1e-12
    step = v[kept].T @ ((s[kept] / (s[kept] ** 2 + noise))[:, None] * (u[:, kept].T @ missed))
    return least + free @ step
