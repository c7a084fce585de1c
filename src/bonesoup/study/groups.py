"""Group the cells of a study by setting and method, and read their metrics over seeds."""

from dataclasses import dataclass

from bonesoup.evaluation.units import UNITS
from bonesoup.method.methods import METHODS, title


@dataclass(frozen=True)
class Group:
    """The cells of a setting that have a method, and the grid it is compared on: the largest it answers."""

    setting: str
    method: str
    cells: tuple[dict, ...]
    grid: str

    @property
    def name(self) -> str:
        """Return the method's title, marked if its grid is not the whole."""
        return title(self.method) + (" †" if self.grid != next(iter(self.cells[0]["grids"])) else "")

    @property
    def unit(self) -> str:
        """Return the truest score that every cell has."""
        return next(unit for unit in UNITS if all(unit in cell["grids"][self.grid] for cell in self.cells))

    @property
    def volumes(self) -> list[str]:
        """Name the hypervolume metrics, one for each reference point."""
        methods = self.cells[0]["grids"][self.grid][self.unit]["methods"]
        return [metric for metric in methods[self.method] if metric.startswith("hypervolume@")]

    def values(self, kind: str, metric: str, unit: str | None = None) -> list[list[float]]:
        """Return [value, low, high] of each seed that has the metric."""
        blocks = [cell["grids"][self.grid].get(unit or self.unit, {}) for cell in self.cells]
        values = [block.get(kind, {}).get(self.method, {}).get(metric) for block in blocks]
        return [value for value in values if value is not None]


def grouped(settings: list[str], cells: list[dict]) -> list[Group]:
    """Group cells by setting, in the order to show, and by method."""
    rank = {name: place for place, name in enumerate(settings)}
    listed = []
    for setting in sorted(dict.fromkeys(cell["setting"] for cell in cells), key=lambda name: rank.get(name, len(rank))):
        present = [cell for cell in cells if cell["setting"] == setting]
        grids = list(present[0]["grids"])
        methods = {method for cell in present for grid in cell["grids"].values() for method in _methods(grid)}
        for method in sorted(methods, key=lambda m: (list(METHODS).index(m) if m in METHODS else len(METHODS), m)):
            having = {
                grid: tuple(cell for cell in present if method in _methods(cell["grids"].get(grid, {})))
                for grid in grids
            }
            grid = next(grid for grid in grids if having[grid])
            listed.append(Group(setting, method, having[grid], grid))
    return listed


def _methods(grid: dict) -> set[str]:
    return {method for unit in UNITS for method in grid.get(unit, {}).get("methods", {})}
