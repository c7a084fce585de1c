"""Count the answers that refuse, by method and preference."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.stats import binomtest

from bonesoup.evaluation.samples import read_responses
from bonesoup.evaluation.tables import preference
from bonesoup.method.methods import SFT, title
from bonesoup.rewards.computed import refuses

TITLE = "Answers that refuse"


def refusals(paths: Mapping[str, Path], objectives: Sequence[str], confidence: float) -> dict[str, list[dict]]:
    """Return {method: [{"preference", "value", "low", "high"}]}: the share of answers that refuse, by preference.

    The detector knows fixed phrases of English (`rewards.computed.refuses`). Intervals are Wilson's.

    Args:
        paths: {method: samples.parquet}.
    """
    return {
        method: [
            {"preference": preference} | _share([refuses(text) for text in texts], confidence)
            for preference, texts in read_responses(path, method, objectives)
        ]
        for method, path in paths.items()
    }


def _share(refused: list[bool], confidence: float) -> dict[str, float]:
    interval = binomtest(sum(refused), len(refused)).proportion_ci(confidence, method="wilson")
    return {"value": sum(refused) / len(refused), "low": float(interval.low), "high": float(interval.high)}


def headings(report: dict) -> list[str]:
    return ["", *(title(method) for method in report.get("refusals", {}))]


def rows(report: dict) -> list[list[str]]:
    """Write the entry `refusals` of report.json: a row for each preference, a column for each method."""
    refused = report.get("refusals", {})
    grid = [point["preference"] for point in max(refused.values(), key=len, default=[])]
    return [
        [preference(report, wanted), *(_at(method, shares, wanted) for method, shares in refused.items())]
        for wanted in grid
    ]


def _at(method: str, points: list[dict], wanted: list[float]) -> str:
    """Find a method's share at a preference; the SFT policy answers every preference alike. Oracles' are rounded."""
    found = (point for point in points if method == SFT or np.allclose(point["preference"], wanted, atol=1e-6))
    share = next(found, None)
    return f"{share['value']:.0%} [{100 * share['low']:.0f}, {100 * share['high']:.0f}]" if share else ""
