"""Compare methods on grids that all of them answer: the metrics of docs/method.md, with intervals."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bonesoup.evaluation.samples import Front, check_prompts, shared_units
from bonesoup.evaluation.statistics import Band, Estimate, Statistics, resampled_means
from bonesoup.evaluation.units import UNITS
from bonesoup.method import front as metrics
from bonesoup.method.methods import BASELINE, SFT
from bonesoup.method.preferences import interior as is_interior


@dataclass(frozen=True, eq=False)
class Block:
    """Methods compared on one grid. Keys: unit (of UNITS), then method, then metric.

    preferences [grid, objective]; points [grid, objective] mean scores (SFT: [1, objective]); covariances
    [grid, objective, objective] of those means; differences, ratios and gains are paired, against the baseline.
    """

    name: str
    preferences: np.ndarray
    methods: tuple[str, ...]
    metrics: dict[str, dict[str, dict[str, Estimate]]]
    differences: dict[str, dict[str, dict[str, Estimate]]]
    ratios: dict[str, dict[str, dict[str, Estimate]]]
    points: dict[str, dict[str, np.ndarray]]
    covariances: dict[str, dict[str, np.ndarray]]
    utility: dict[str, dict[str, Band]]
    gains: dict[str, dict[str, Band]]


@dataclass(frozen=True, eq=False)
class Results:
    """Every comparison of a run. The first block is the full grid, a second what every method answers."""

    objectives: tuple[str, ...]
    references: tuple[float, ...]
    interior: float
    confidence: float
    resamples: int
    prompts: int
    blocks: tuple[Block, ...]

    @property
    def units(self) -> tuple[str, ...]:
        """Return the units all methods are scored in, the most trustworthy first."""
        return tuple(unit for unit in UNITS if unit in self.blocks[0].metrics)

    @property
    def methods(self) -> tuple[str, ...]:
        """Return every method, in the order of the last block, which holds them all."""
        return self.blocks[-1].methods

    @property
    def rivals(self) -> list[str]:
        """Return the methods other than SFT and Rewarded Soup."""
        return [method for method in self.methods if method not in (BASELINE, SFT)]

    def home(self, method: str) -> Block:
        """Return the largest grid that a method answers whole."""
        return next(block for block in self.blocks if method in block.methods)


def evaluate(
    fronts: Sequence[Front],
    references: Sequence[float],
    interior: float,
    statistics: Statistics,
    baseline: str = BASELINE,
) -> Results:
    """Compare methods on the same prompts.

    Methods that answer the whole grid share the block `full grid`. Where some method answers only part of it
    (the oracle), a second block holds all methods on the preferences they share, so that no comparison mixes grids.

    Args:
        fronts: one per method, from `read_fronts`.
        references: hypervolume reference points, one value for every objective, in SFT standard deviations.
        interior: a preference is interior if no weight is below this.
        statistics: the same resamples of prompts for every method.
        baseline: the method that differences and ratios are taken against.

    Raises:
        ValueError: no steerable method, different prompts, or no shared preference.
    """
    fronts = list(fronts)
    steerable = [front for front in fronts if front.method != SFT]
    if not steerable:
        raise ValueError(f"nothing to compare: no method besides {SFT} was evaluated")
    check_prompts(fronts)

    weights = statistics.weights(len(fronts[0].prompts))
    grid = max((front.preferences for front in steerable), key=len)
    whole = [f for f in fronts if f.method == SFT or len(places_on(f.preferences, grid)) == len(grid)]
    level = (tuple(references), interior, statistics, baseline)
    blocks = [_block("full grid", whole, grid, weights, *level)]
    if partial := [front for front in fronts if front not in whole]:
        shared = grid
        for front in partial:
            shared = shared[np.sort(places_on(shared, front.preferences))]
        if not len(shared):
            raise ValueError(f"{', '.join(f.method for f in partial)} shares no preference with the other methods")
        names = " and ".join(front.method for front in partial)
        blocks.append(_block(f"{names} grid", fronts, shared, weights, *level))
    return Results(
        objectives=fronts[0].objectives,
        references=tuple(float(r) for r in references),
        interior=interior,
        confidence=statistics.confidence,
        resamples=statistics.bootstrap,
        prompts=len(fronts[0].prompts),
        blocks=tuple(blocks),
    )


def places_on(preferences: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Return the place in `preferences` of each grid row found there, in grid order."""
    same = np.isclose(grid[:, None], preferences[None], atol=1e-6).all(axis=2)
    return same.argmax(axis=1)[same.any(axis=1)]


def _block(
    name: str,
    fronts: list[Front],
    grid: np.ndarray,
    weights: np.ndarray,
    references: tuple[float, ...],
    interior: float,
    statistics: Statistics,
    baseline: str,
) -> Block:
    units = shared_units(fronts)
    block = Block(name, grid, tuple(front.method for front in fronts), *({u: {} for u in units} for _ in range(7)))
    for unit in units:
        draws, utilities = {}, {}
        for front in fronts:
            places = np.zeros(1, int) if front.method == SFT else places_on(front.preferences, grid)
            points = resampled_means(weights, front.scores(unit)[:, places])
            utilities[front.method] = (points * grid).sum(axis=2)
            draws[front.method] = _metric_draws(points, grid, utilities[front.method], references, interior)
            for key, values in (("kl", front.kl), ("tokens", front.tokens)):
                draws[front.method][key] = weights @ values[:, places].mean(axis=1)
            block.points[unit][front.method] = points[0]
            block.covariances[unit][front.method] = _covariances(points[1:])

        def summary(values: dict[str, np.ndarray]) -> dict[str, Estimate]:
            return {key: statistics.estimate(value) for key, value in values.items()}

        base = draws.get(baseline)
        for method, values in draws.items():
            block.metrics[unit][method] = summary(values)
            block.utility[unit][method] = statistics.band(utilities[method])
            if base is None or method == baseline:
                continue
            block.differences[unit][method] = summary({k: values[k] - base[k] for k in values if k in base})
            block.ratios[unit][method] = summary(
                {k: values[k] / base[k] for k in values if k.startswith("hypervolume") and (base[k] > 0).all()}
            )
            block.gains[unit][method] = statistics.band(utilities[method] - utilities[baseline])
    return block


def _metric_draws(
    points: np.ndarray,
    grid: np.ndarray,
    utility: np.ndarray,
    references: tuple[float, ...],
    interior: float,
) -> dict[str, np.ndarray]:
    """Compute every metric [draw] of fronts points [draw, grid or 1, objective]; utility [draw, grid]."""

    def each(metric: Callable[[np.ndarray], float], of: np.ndarray = points) -> np.ndarray:
        return np.array([metric(front) for front in of], dtype=float)

    n = grid.shape[1]
    drawn = {
        f"hypervolume@{r:g}": each(lambda front, r=r: metrics.hypervolume(front, np.full(n, float(r))))
        for r in references
    }
    drawn["inner_product"] = utility.mean(axis=1)
    for key, mask in regions(grid, interior).items():
        if mask.any():
            drawn[f"inner_product_{key}"] = utility[:, mask].mean(axis=1)
    if len(grid) > 1:
        answered = np.broadcast_to(points, (len(points), *grid.shape))
        drawn["controllability"] = each(lambda front: metrics.controllability(grid, front), answered)
    drawn["cardinality"] = each(metrics.cardinality)
    drawn["sparsity"] = each(metrics.sparsity)
    drawn["spacing"] = each(metrics.spacing)
    return drawn


def regions(grid: np.ndarray, interior: float) -> dict[str, np.ndarray]:
    """Split the grid by masks [grid]: interior, vertex (all weight on one objective) and edge (the rest)."""
    inside = is_interior(grid, interior)
    vertex = np.isclose(grid.max(axis=1), 1) & ~inside
    return {"interior": inside, "edge": ~inside & ~vertex, "vertex": vertex}


def _covariances(points: np.ndarray) -> np.ndarray:
    """Return the covariance [grid, objective, objective] over draws of points [draw, grid, objective]."""
    centred = points - points.mean(axis=0)
    return np.einsum("dgi,dgj->gij", centred, centred) / max(len(points) - 1, 1)
