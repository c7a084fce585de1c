"""Check that sampled tokens follow a distribution."""

import numpy as np


def assert_drawn_from(tokens: list[int], probabilities: np.ndarray) -> None:
    """Compare counts with a distribution by a chi-square statistic; probability 0 must not occur at all."""
    expected = probabilities * len(tokens)
    counts = np.bincount(tokens, minlength=len(expected))
    possible = expected > 0
    assert counts[~possible].sum() == 0
    statistic = ((counts - expected)[possible] ** 2 / expected[possible]).sum()
    degrees = possible.sum() - 1
    # Mean `degrees`, standard deviation sqrt(2 degrees): five of them is beyond chance.
    assert statistic < degrees + 5 * np.sqrt(2 * degrees)
