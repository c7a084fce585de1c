"""Metrics with intervals, as the registry keeps them, and those of the report of the present run."""

from pathlib import Path

from bonesoup.evaluation.samples import UNITS
from bonesoup.files import read_json
from bonesoup.method.methods import BASELINE, SFT
from bonesoup.paths import METRICS

Evidence = dict[str, dict[str, float]]  # metric -> value, low, high
# A soup's own method is judged beside these: what it has to beat, and the policy they all start from.
BESIDE = (BASELINE, SFT)


def report_evidence(root: Path, method: str) -> Evidence:
    """A method's metrics on the full grid in out/metrics/report.json, as '<unit>/<metric>'."""
    file = root / METRICS / "report.json"
    if not file.is_file():
        return {}
    grid = read_json(file)["grids"]["full_grid"]
    return {
        # These are of the responses, whoever scores them.
        metric if metric in ("kl", "tokens") else f"{unit}/{metric}": found
        for unit in UNITS
        if unit in grid
        for metric, found in grid[unit]["methods"].get(method, {}).items()
    }
