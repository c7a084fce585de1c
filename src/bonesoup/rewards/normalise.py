"""One scale for all rewards: mean and standard deviation on the SFT policy's own responses.

h = B r means what it says only if the rewards share a scale. The fit happens once; training, evaluation and
the hypervolume reference all use (r - mean) / std.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bonesoup.files import read_json


@dataclass(frozen=True)
class Normaliser:
    """mean [objective], std [objective]."""

    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def read(cls, path: Path) -> "Normaliser":
        """Read what the stage `normalise` wrote."""
        written = read_json(path)
        return cls(np.array(written["mean"]), np.array(written["std"]))

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """scores [..., objective] in raw units -> SFT standard deviations."""
        return (scores - self.mean) / self.std


def fit(scores: np.ndarray, names: list[str]) -> Normaliser:
    """scores [sample, objective] -> Normaliser.

    Raises:
        ValueError: a reward that does not vary on SFT responses cannot be normalised (and teaches nothing).
    """
    mean, std = scores.mean(axis=0), scores.std(axis=0)
    for name, spread in zip(names, std, strict=True):
        if spread < 1e-8:
            raise ValueError(
                f"reward {name} gives every response of the SFT policy the same score: "
                "there is nothing to learn from it"
            )
    return Normaliser(mean, std)
