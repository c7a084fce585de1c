"""Compare each front with the union of all: what it is short of, and which of its points survive there."""

from collections.abc import Mapping

import numpy as np


def against_union(fronts: Mapping[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """Compare fronts {method: points [draw, grid, objective]} with the non-dominated points of all methods together.

    Returns:
        {method: metrics}, of each draw:

        - `epsilon` [draw]: the least amount to add to all rewards of the front so that it reaches every point of the
          union (additive epsilon).
        - `igd_plus` [draw]: mean over the union of the distance that the front is short of it (IGD+).
        - `r2` [draw], for two objectives only: expected Chebyshev distance to the best value of each objective in the
          union, over uniform weights.
        - `pareto` [draw, grid]: 1 for a point that no point of any method dominates, else 0. Its mean over resamples is
          the probability of being Pareto-optimal among the methods compared.

    Source: Zitzler et al. 2003 (Performance assessment of multiobjective optimizers), Ishibuchi et al. 2015 (Modified
    distance calculation in generational distance), Schaepermeier and Kerschke 2025 (exact R2); computed by moocore.
    """
    import moocore

    sizes = [front.shape[1] for front in fronts.values()]
    joined = np.concatenate(list(fronts.values()), axis=1)
    planar = joined.shape[2] == 2
    names = ["epsilon", "igd_plus", *["r2"] * planar]
    metrics = {method: {name: np.empty(len(joined)) for name in names} for method in fronts}
    kept = np.empty(joined.shape[:2])
    for draw, every in enumerate(joined):
        kept[draw] = moocore.is_nondominated(every, maximise=True, keep_weakly=True)
        union = every[kept[draw] == 1]
        for method, front in fronts.items():
            mine = metrics[method]
            mine["epsilon"][draw] = moocore.epsilon_additive(front[draw], ref=union, maximise=True)
            mine["igd_plus"][draw] = moocore.igd_plus(front[draw], ref=union, maximise=True)
            if planar:
                mine["r2"][draw] = moocore.r2_exact(front[draw], ref=union.max(axis=0), maximise=True)
    parts = np.split(kept, np.cumsum(sizes)[:-1], axis=1)
    return {method: metrics[method] | {"pareto": part} for method, part in zip(fronts, parts, strict=True)}
