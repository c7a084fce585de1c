"""The points that a diagnosis measures: on the lines between SFT and specialists, and after short runs from soups."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np

# Points along every line, ends included, as shares of its length.
PLACES = (0.0, 0.25, 0.5, 0.75, 1.0)
# Name of the even preference's utility in the table of a line.
TOGETHER = "mean"
# The cost of extrapolation is measured where two policies of one row have coefficients of 1.5 and -.5, as at the
# vertices of Bone Soup with beta = .75. They have 1.5^2 + .5^2 = 2.5 times the noise of one policy, so 1.5 is added.
ADDED_NOISE = 1.5


@dataclass(frozen=True)
class Line:
    """A straight line between two policies: where its points are among those measured. None is the SFT policy."""

    start: int | None
    end: int
    points: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Layout:
    """Points to sample, as coefficients over the specialists and the adapters of the short runs.

    Attributes:
        coefficients: [point, specialists n + short runs 1 + n]; the first run starts from the even soup.
        even, even_run: the even soup, and where the run from it led.
        specialists, runs: points of each specialist, and of the run from it.
        extrapolated: points of each specialist and its run, extrapolated; see `reach`.
    """

    coefficients: np.ndarray
    lines: tuple[Line, ...]
    even: int
    even_run: int
    specialists: tuple[int, ...]
    runs: tuple[int, ...]
    extrapolated: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Sampled:
    """Scores in SFT standard deviations and KL in nats.

    Shapes: reward, gold and judge [prompt, point, objective]; kl [prompt, point].
    """

    layout: Layout
    reward: np.ndarray
    gold: np.ndarray | None
    kl: np.ndarray
    judge: np.ndarray | None = None


def reach(share: float) -> float:
    """Return the multiple of a short run's adapter that extrapolates like two policies trained apart.

    Policies of one row differ by the noise of their training alone. A run of a share of the steps has that share of the
    variance, and this multiple of its adapter has as much as ADDED_NOISE policies.
    """
    return (ADDED_NOISE / share) ** 0.5


def layout(n: int, share: float) -> Layout:
    """Return the lines from SFT to each specialist and between every two of them, the soups and the short runs.

    Args:
        share: steps of a short run over those of a policy.
    """
    eye, points, lines = np.eye(n), [], []

    def place(specialists: np.ndarray, run: int | None = None, times: float = 1.0) -> int:
        runs = np.zeros(1 + n) if run is None else times * np.eye(1 + n)[run]
        point = (*specialists.tolist(), *runs.tolist())
        if point not in points:
            points.append(point)
        return points.index(point)

    for start, end in [*((None, i) for i in range(n)), *combinations(range(n), 2)]:
        first = np.zeros(n) if start is None else eye[start]
        lines.append(Line(start, end, tuple(place((1 - t) * first + t * eye[end]) for t in PLACES)))
    even = np.full(n, 1 / n)
    places = place(even), place(even, 0), tuple(map(place, eye)), tuple(place(eye[i], 1 + i) for i in range(n))
    beyond = tuple(place(eye[i], 1 + i, reach(share)) for i in range(n))
    return Layout(np.array(points), tuple(lines), *places, beyond)
