"""Utility of the answer to a preference that was asked for, and what other answers would have been worth."""

from collections.abc import Mapping

import numpy as np

# Preferences drawn; the error that they add to a utility is far below that of the prompts.
DRAWN = 20_000


def nearest_shares(grid: np.ndarray) -> np.ndarray:
    """Return how much each weight is asked for at each point of a grid, [grid, objective], if users round.

    A user's preference is uniform over the simplex, and the user asks for the nearest point that was measured. An entry
    is E[mu_i; point g is the nearest to mu]; all add up to 1. A fixed seed draws the preferences.

    Args:
        grid: preferences [grid, objective].
    """
    drawn = np.random.default_rng(0).dirichlet(np.ones(grid.shape[1]), DRAWN)
    # |mu - g|^2 without the part that is the same for all g.
    nearest = ((grid**2).sum(axis=1) - 2 * drawn @ grid.T).argmin(axis=1)
    shares = np.zeros(grid.shape)
    np.add.at(shares, nearest, drawn / DRAWN)
    return shares


def expected_utility(points: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Return E[mu . R(nearest measured point to mu)] over users' preferences mu, [draw].

    Nothing is interpolated: every answer was measured, and is judged by the preference of the user, not by that of the
    grid point.

    Args:
        points: [draw, grid, objective].
        shares: of `nearest_shares`.

    Source: expected utility (Zintgraf et al. 2015), for users who ask instead of picking from the front.
    """
    return np.einsum("dgi,gi->d", points, shares)


def calibration(points: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Return what asking for another point of the same method would have gained, [draw, grid]; 0 if asking is best."""
    utility = np.einsum("dpi,gi->dgp", points, grid)
    return utility.max(axis=2) - np.einsum("dgi,gi->dg", points, grid)


def regret(utilities: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return, for each method, how much more utility the best method has at each point, [draw, grid].

    The best method of a point is chosen on the sample, the first draw, and stays the same in all resamples.

    Args:
        utilities: {method: [draw, grid]}.
    """
    every = np.stack(list(utilities.values()))
    best = every[:, 0].argmax(axis=0)
    chosen = np.take_along_axis(every, best[None, None], axis=0)[0]
    return {method: chosen - utility for method, utility in utilities.items()}
