"""A reward head: a bounded linear score on features of the frozen base.

A linear score has no ceiling, and training runs away with it (docs/objective.md), so it saturates:
BOUND tanh(z / BOUND), with z in standard deviations over the rows it was fitted on.
"""

from dataclasses import dataclass

import numpy as np

BOUND = 3.0  # standard deviations
JUDGE = "judge"  # folder of a judge in its reward's


@dataclass(frozen=True)
class Head:
    """A bounded linear score: BOUND tanh((weight . feature + bias) / BOUND).

    Attributes:
        layer: layer of the base, counted from 1.
        weight: [hidden].
        penalty: penalty on the squared weight in the fit.
    """

    layer: int
    weight: list[float]
    bias: float
    penalty: float

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Map features [row, hidden] of the head's layer to scores [row]."""
        return BOUND * np.tanh((rows.astype(float) @ np.array(self.weight) + self.bias) / BOUND)
