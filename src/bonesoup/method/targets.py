"""Rewards-in-Context: what a preference asks for, which responses lie near the front, how a budget is shared out.

Source: Rewards-in-Context (Yang et al., ICML 2024, arXiv 2402.10207): section 3 and the authors' code.
"""

import numpy as np
from numpy.typing import ArrayLike

from bonesoup.method.arrays import finite, matrix


def target_rewards(preference: ArrayLike, low: ArrayLike, high: ArrayLike) -> np.ndarray:
    """Return the rewards to ask for: low_i + min(n w_i, 1) (high_i - low_i).

    The paper's solution for linear constraints: an objective with at least an even share of the weight is asked
    for in full. At equal weights that asks for everything at once, attainable or not.

    Args:
        preference: w [..., objective n] on the simplex.
        low: [objective n], requested of an objective without weight.
        high: [objective n], the highest request.

    Returns:
        [..., objective n].

    Raises:
        ValueError: shapes do not fit, a value is not finite, or a low is above its high.
    """
    preference = finite(preference, "preference")
    low, high = finite(low, "low"), finite(high, "high")
    if low.ndim != 1 or low.shape != high.shape or preference.ndim == 0 or preference.shape[-1] != len(low):
        raise ValueError(
            f"preference [..., n], low [n] and high [n] do not fit: found {list(preference.shape)}, "
            f"{list(low.shape)} and {list(high.shape)}"
        )
    if (low > high).any():
        raise ValueError(f"the lowest reward {low.tolist()} lies above the highest {high.tolist()}")
    return low + np.minimum(len(low) * preference, 1) * (high - low)


def near_front(rewards: ArrayLike, quantile: float) -> np.ndarray:
    """Mark the responses among the best in at least one objective (multi-objective rejection sampling).

    Args:
        rewards: [response, objective].
        quantile: a response stays if it reaches this quantile of any objective, in [0, 1].

    Returns:
        bool [response]; at least one is kept.

    Raises:
        ValueError: rewards is not a finite [response, objective] array, or quantile lies outside [0, 1].
    """
    rewards = matrix(rewards, "rewards")
    if not 0 <= quantile <= 1:
        raise ValueError(f"quantile must be in [0, 1], found {quantile}")
    return (rewards >= np.quantile(rewards, quantile, axis=0)).any(axis=1)


def phases(updates: int, rounds: int, online: float) -> list[int]:
    """Return the updates of the offline phase and of each online round, which together take the share `online`.

    Raises:
        ValueError: a phase would get none.
    """
    each = round(updates * online / rounds) if rounds else 0
    shares = [updates - rounds * each, *[each] * rounds]
    if min(shares) < 1:
        raise ValueError(
            f"{updates} updates do not reach for {rounds} online rounds with a share of {online:g}: "
            f"the offline phase would get {shares[0]}, a round {each}"
        )
    return shares
