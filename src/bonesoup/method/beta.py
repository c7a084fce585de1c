"""Choose beta by theory: the circulant that misses least to second order, for preferences as they are asked for."""

import numpy as np
from numpy.polynomial import Polynomial
from numpy.typing import ArrayLike

from bonesoup.method.arrays import check_objectives, finite, matrix
from bonesoup.method.preferences import interior, lattice


def beta_for(
    n: int, distribution: str | float | list[tuple[list[float], float]], parts: int, threshold: float
) -> float:
    """Choose beta for a stated distribution of preferences, rounded to four digits, within which the loss is flat.

    Args:
        n: objectives.
        distribution: `uniform` over the simplex; `interior`, the points of the lattice of `parts` with no weight below
            `threshold`, equally often; a number, the concentration of a symmetric Dirichlet distribution; or
            preferences [objective] with their frequencies.

    Raises:
        ValueError: as `best_beta` and `best_beta_dirichlet`, or the lattice has no interior point.
    """
    if distribution == "uniform":
        beta = best_beta_dirichlet(n)
    elif distribution == "interior":
        grid = lattice(n, parts)
        inside = grid[interior(grid, threshold)]
        if not len(inside):
            raise ValueError(f"no preference in {parts} parts gives each of {n} objectives {threshold:g} or more")
        beta = best_beta(n, inside)
    elif isinstance(distribution, list):
        preferences, weights = zip(*distribution, strict=True)
        beta = best_beta(n, preferences, weights)
    else:
        beta = best_beta_dirichlet(n, distribution)
    return round(beta, 4)


def best_beta(n: int, preferences: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Choose the beta of the circulant with the least second-order error over a distribution of preferences.

    A Bone Soup leaves out the second moments (mu_i - g)(mu_j - g), i != j, with g = (1 - beta) / (n - 1). Their
    expected squared norm (Frobenius, diagonal included) is a polynomial of degree four in z = 1/n - g, minimised in
    closed form.
    For two objectives beta = (1 + sqrt(E x^2)) / 2 with x = 2 mu - 1.

    Args:
        n: objectives.
        preferences: [preference, objective n], on the simplex.
        weights: [preference], how often each is asked for; None means equally often.

    Returns:
        beta in (1/n, 1].

    Raises:
        ValueError: shapes that do not fit, preferences off the simplex, weights that are negative or all 0, or only the
            even preference, for which a policy trained on it beats every beta.
    """
    check_objectives(n)
    preferences = matrix(preferences, "preferences")
    if preferences.shape[1] != n:
        raise ValueError(f"preferences must be [preference, {n}], found shape {list(preferences.shape)}")
    off = (preferences < 0).any(axis=1) | (np.abs(preferences.sum(axis=1) - 1) > 1e-6)
    if off.any():
        raise ValueError(f"preferences must lie on the simplex, found {preferences[off][0].tolist()}")
    weights = np.ones(len(preferences)) if weights is None else finite(weights, "weights")
    if weights.shape != preferences.shape[:1] or (weights < 0).any() or not weights.any():
        raise ValueError(f"weights must be [{len(preferences)}], not negative and not all 0, found {weights.tolist()}")
    first, second = np.triu_indices(n, 1)
    # Missing moment of a pair, by powers of z: [preference, pair].
    centred = preferences - 1 / n
    powers = (
        centred[:, first] * centred[:, second],
        centred[:, first] + centred[:, second],
        np.ones((len(preferences), len(first))),
    )
    # The diagonal of the missing moments is minus the sum of its row: pairs that share an objective count together.
    together = pair_overlaps(n)
    loss = Polynomial([0.0])
    for i, a in enumerate(powers):
        for j, b in enumerate(powers):
            expected = np.einsum("g,gp,pq,gq->", weights / weights.sum(), a, together, b)
            loss += Polynomial([0.0] * (i + j) + [float(expected)])
    return _beta_of(n, loss)


def pair_overlaps(n: int) -> np.ndarray:
    """Return [pair, pair] of n objectives: 1 for a pair with itself, 1/4 for pairs that share an objective, else 0."""
    pairs = np.stack(np.triu_indices(n, 1))
    shared = (pairs[:, None, :, None] == pairs[None, :, None, :]).sum(axis=(0, 1))
    return np.array([0.0, 0.25, 1.0])[shared]


def best_beta_dirichlet(n: int, concentration: float = 1.0) -> float:
    """Choose beta as `best_beta` does, for preferences from a symmetric Dirichlet distribution; 1 is uniform.

    Raises:
        ValueError: concentration is not a positive finite number.
    """
    check_objectives(n)
    if not 0 < concentration < np.inf:
        raise ValueError(f"the concentration of a Dirichlet distribution must be positive, found {concentration!r}")

    def moment(*powers: int) -> float:
        """Return E of the product of mu_i^powers_i, over different objectives."""
        return float(np.prod([_rising(concentration, k) for k in powers]) / _rising(n * concentration, sum(powers)))

    def expected(*factors: list[float]) -> Polynomial:
        """Expand E prod_i f_i(mu_i), each factor by powers of mu_i [(coefficient polynomial in z), ...]."""
        total = Polynomial([0.0])
        for powers in np.ndindex(*(len(factor) for factor in factors)):
            term = Polynomial([1.0])
            for factor, power in zip(factors, powers, strict=True):
                term *= factor[power]
            total += term * moment(*powers)
        return total

    g = Polynomial([1 / n, -1.0])
    once, twice = [-g, Polynomial([1.0])], [g * g, -2 * g, Polynomial([1.0])]
    loss = n * (n - 1) / 2 * expected(twice, twice)
    if n > 2:
        loss += n * (n - 1) * (n - 2) / 4 * expected(twice, once, once)
    return _beta_of(n, loss)


def _rising(base: float, count: int) -> float:
    return float(np.prod(base + np.arange(count)))


def _beta_of(n: int, loss: Polynomial) -> float:
    """Minimise a loss in z = (n beta - 1) / (n (n - 1)), the distance from the even row, over (0, 1/n].

    In this variable the roots of nearly even preferences do not lie close together, so that beta keeps its digits.
    """
    slope = loss.deriv()
    roots = slope.roots()
    candidates = []
    for root in roots[np.abs(roots.imag) < 1e-7].real:
        # Close roots of a companion matrix are accurate to about 1e-8 only: refine them by a Newton step.
        for _ in range(3):
            if (bend := slope.deriv()(root)) != 0:
                root -= slope(root) / bend
        if -1e-9 < root < 1 / n + 1e-9:
            candidates.append(min(float(root), 1 / n))
    # Where the loss rises towards the end, the end is no minimum, although rounding may hide that next to one.
    if not candidates or slope(1 / n) <= 0:
        candidates.append(1 / n)
    best = min(candidates, key=loss)
    beta = 1 / n + (n - 1) * best
    if beta <= 1 / n + 1e-6:
        raise ValueError(
            f"preferences that are all but even ask for beta = 1/{n}, where every backbone is the same policy: train "
            "one policy of the even row instead"
        )
    return float(beta)
