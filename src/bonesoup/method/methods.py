"""Slots: the names of the policies that the methods are made of, and their weight rows."""

import numpy as np


def method_slots(method: str, n: int, backbones: int, oracles: int) -> list[str]:
    """The policies a method is made of, for n objectives."""
    kind, count = {
        "rewarded": ("specialist", n),
        "mod": ("specialist", n),
        "bone": ("backbone", backbones),
        "unmapped": ("backbone", backbones),
        "oracle": ("oracle", oracles),
    }.get(method, ("", 0))
    return [f"{kind}-{k}" for k in range(1, count + 1)]


def weight_rows(basis: np.ndarray, oracles: list[list[float]]) -> dict[str, list[float]]:
    """slot -> weights [objective] of every policy the methods may need."""
    n = basis.shape[1]
    kinds = {
        "backbone": basis,
        "specialist": np.eye(n),
        "oracle": np.array(oracles).reshape(-1, n),
    }
    return {
        # Rounded, so that rows that agree up to float rounding are one policy.
        f"{kind}-{k}": np.round(row, 9).tolist()
        for kind, matrix in kinds.items()
        for k, row in enumerate(matrix, start=1)
    }
