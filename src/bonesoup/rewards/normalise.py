"""Put all rewards on one scale: mean and standard deviation over the SFT policy's responses.

A mix h = B r of rewards needs a common scale. It is fitted once; training, evaluation and the hypervolume reference
all use (r - mean) / std.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bonesoup.files import read_json


@dataclass(frozen=True)
class Normaliser:
    """The common scale of the rewards: mean [objective] and std [objective] in raw units."""

    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def read(cls, path: Path) -> "Normaliser":
        """Read the file that the stage `normalise` wrote."""
        return cls.of(read_json(path))

    @classmethod
    def of(cls, scale: dict) -> "Normaliser":
        """Take "mean" and "std" from plain data."""
        return cls(np.array(scale["mean"]), np.array(scale["std"]))

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Convert scores [..., objective] from raw units to SFT standard deviations."""
        return (scores - self.mean) / self.std


def fit(scores: np.ndarray, names: list[str]) -> Normaliser:
    """Fit a Normaliser to scores [sample, objective].

    Raises:
        ValueError: a reward does not vary on SFT responses, so it cannot be normalised (and teaches nothing).
    """
    mean, std = scores.mean(axis=0), scores.std(axis=0)
    for name, spread in zip(names, std, strict=True):
        if spread < 1e-8:
            raise ValueError(
                f"reward {name} gives every response of the SFT policy the same score: "
                "there is nothing to learn from it"
            )
    return Normaliser(mean, std)
