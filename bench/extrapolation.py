"""Three rules for what extrapolation costs, against what the cells of a study measured; nothing is trained.

    python bench/extrapolation.py           the study `middle`

From the specialists, a cell's diagnosis measured the regret of Rewarded Soup, and what is lost where coefficients of
1.5 and -.5 add noise. Each rule predicts every soup from these two numbers, and charges that loss for

    noise     the noise beyond one policy's, max(sum lambda^2 - 1, 0): the rule of `bonesoup diagnose`
    L1        the L1 norm of the coefficients beyond 1
    model     the noise beyond Rewarded Soup's, sum lambda^2 - sum mu^2: what the model alone would say

Printed are the mean distances of predicted from measured gains, over soups and cells.
"""

import sys

import numpy as np

from bonesoup.method.mappings import MAPPINGS
from bonesoup.method.methods import MAIN, METHODS, Plan
from bonesoup.method.preferences import interior, lattice
from bonesoup.method.quadratic import added_noise, relative_gain
from bonesoup.study import results
from bonesoup.study.predictions import PARTS
from bonesoup.study.results import DIFFERENCES

RULES = ("noise", "L1", "model")


def charged(rows: np.ndarray, grid: np.ndarray, mapping: str) -> dict[str, float]:
    """Return what each rule charges on average, in units of the loss that was measured."""
    weights = np.array([MAPPINGS[mapping].coefficients(rows, mu, None) for mu in grid])
    corrections = ~np.isclose(rows.max(axis=1), 1) if mapping == "curved" else np.zeros(len(rows), bool)
    noise = weights**2 @ np.where(corrections, 0.5, 1.0)
    # By the L1 norm a correction counts as its policy, less the soup that it starts from.
    whole = weights.copy()
    whole[:, ~corrections] -= weights[:, corrections] @ rows[corrections] @ rows[~corrections].T
    return {
        "noise": added_noise(rows, grid, mapping).mean() / 1.5,
        "L1": np.abs(whole).sum(axis=1).mean() - 1,
        "model": (noise - (grid**2).sum(axis=1)).mean() / 1.5,
    }


def errors(cell: dict) -> dict[str, list[tuple[float, ...]]]:
    """Return for every part of the grid how far each rule is off, for each soup of a cell.

    Raises:
        ValueError: the rule of `bonesoup diagnose` does not give what the cell holds.
    """
    told, grid = cell["diagnosis"], cell["grids"]["full_grid"]
    unit, rows, n = told["unit"], np.array(cell["basis"]["rows"]), len(cell["objectives"])
    points = next(points for parts in range(1, 40) if len(points := lattice(n, parts)) == grid["points"])
    regions = {"interior": points[interior(points, cell["interior"])], "grid": points, "vertices": np.eye(n)}
    forecast, loss = told["prediction"][unit], 1.5 * told["extrapolation"][unit]["value"]
    share = relative_gain(rows, regions["interior"], METHODS[MAIN].mapping_of(*rows.shape)).mean()
    regret = (forecast["gain"] + forecast["extrapolating"]["interior"]) / share
    off: dict[str, list[tuple[float, ...]]] = {part: [] for part in PARTS}
    for method, stated in told["soups"].items():
        policies = np.array(METHODS[method].policies.rows(Plan.of(rows, [])))
        mapping = METHODS[method].mapping_of(*policies.shape)
        for part, metric in PARTS.items():
            if method not in grid[unit][DIFFERENCES]:
                continue
            gain = regret * relative_gain(policies, regions[part], mapping).mean()
            costs = charged(policies, regions[part], mapping)
            predicted = {rule: gain - loss * costs[rule] for rule in RULES}
            if abs(predicted["noise"] - stated[part]) > 1e-4:
                raise ValueError(f"{cell['setting']}-{cell['seed']}, {method}: {stated[part]} is not of today's rule")
            measured = grid[unit][DIFFERENCES][method][metric][0]
            off[part].append(tuple(abs(predicted[rule] - measured) for rule in RULES))
    return off


def main() -> None:
    study = sys.argv[1] if len(sys.argv) > 1 else "middle"
    cells = [cell for cell in results.read(study) if (cell["diagnosis"] or {}).get("soups")]
    everything: dict[str, dict[str, list]] = {cell["setting"]: {} for cell in cells} | {"all": {}}
    for cell in cells:
        for part, values in errors(cell).items():
            for name in (cell["setting"], "all"):
                everything[name].setdefault(part, []).extend(values)
    print(f"{'setting':18}{'part':10}" + "".join(f"{rule:>8}" for rule in RULES) + "   predictions")
    for name, parts in everything.items():
        for part, values in (*parts.items(), ("together", [v for each in parts.values() for v in each])):
            means = np.mean(values, axis=0)
            print(f"{name:18}{part:10}" + "".join(f"{mean:8.3f}" for mean in means) + f"{len(values):14}")


if __name__ == "__main__":
    main()
