"""Attainment bands: the rewards that the fronts of all, of half and of any training seed reach, for two objectives."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bonesoup.evaluation.plots import STYLE
from bonesoup.evaluation.units import UNITS
from bonesoup.files import appearing
from bonesoup.method.methods import BASELINE, METHODS, SFT, title
from bonesoup.study import results

# Panels side by side.
ACROSS = 3


def attained(fronts: Sequence[np.ndarray], count: int) -> np.ndarray:
    """Return the corners of the region that at least `count` of the fronts attain.

    A front attains rewards if one of its points is at least as good in both. Between corners the region is a
    staircase: nothing is interpolated.

    Args:
        fronts: [point, 2] for each seed; larger is better.

    Returns:
        [corner, 2], the first objective ascending and the second descending.

    Source: empirical attainment function (Grunert da Fonseca, Fonseca and Hall, EMO 2001), computed by moocore.
    """
    import moocore

    seeds = np.repeat(np.arange(len(fronts)), [len(front) for front in fronts])
    # moocore minimises, and rounds the share of fronts up: half a front less is safe from float error.
    share = 100 * (count - 0.5) / len(fronts)
    surface = moocore.eaf(-np.concatenate(fronts), seeds, percentiles=[share])
    return np.unique(-surface[:, :2], axis=0)


def heights(corners: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return the best second objective attained together with x [place] of the first; -inf beyond the last corner."""
    return np.where(corners[:, 0] >= x[:, None], corners[:, 1], -np.inf).max(axis=1)


def drawn_methods(cells: Sequence[dict]) -> list[str]:
    """List the methods of a figure, the baseline first.

    Ablations, which only map the policies of another method differently, are left out, and so are methods that answer
    fewer preferences than the baseline: a front with fewer points attains less.
    """
    answered = {key: {len(cell["fronts"]["methods"].get(key, [])) for cell in cells} for key in METHODS}
    kinds, chosen = set(), []
    for key, method in METHODS.items():
        kind = (method.policies, method.mixes, method.stage)
        if key != SFT and answered[key] == answered[BASELINE] != {0} and kind not in kinds:
            chosen.append(key)
            kinds.add(kind)
    return chosen


def figure(cells: Sequence[dict]) -> Figure:
    """Draw a panel for each method with the baseline behind it, from the cells of one setting.

    Raises:
        ValueError: fewer than two cells keep their fronts, there are not two objectives, or no two methods to compare.
    """
    setting, objectives = cells[0]["setting"], cells[0]["objectives"]
    if len(objectives) != 2:
        raise ValueError(f"{setting}: attainment bands need two objectives, found {len(objectives)}")
    having = [cell for cell in cells if "fronts" in cell]
    if len(having) < 2:
        raise ValueError(
            f"{setting}: attainment bands need the fronts of two seeds or more, and {len(having)} of {len(cells)} "
            "cells keep theirs: remove the files of cells that ran before fronts were kept, and run them again"
        )
    methods = drawn_methods(having)
    fronts = {method: [np.array(cell["fronts"]["methods"][method]) for cell in having] for method in methods}
    if not (rivals := methods[1:]):
        raise ValueError(f"{setting}: no method answers as many preferences as {title(BASELINE)}")
    points = np.concatenate([points for each in fronts.values() for points in each])
    margin = 0.05 * np.ptp(points, axis=0)
    low, high = points.min(axis=0) - margin, points.max(axis=0) + margin
    rows, across = -(-len(rivals) // ACROSS), min(len(rivals), ACROSS)
    with matplotlib.rc_context(STYLE):
        drawing = Figure(figsize=(3.5 * across, 3.5 * rows + 0.3))
        axes = drawing.subplots(rows, across, squeeze=False, sharex=True, sharey=True)
        for ax in axes.flat[len(rivals) :]:
            ax.set_visible(False)
        for ax, rival in zip(axes.flat, rivals, strict=False):
            for method in (BASELINE, rival):
                _band(ax, fronts[method], method, low)
            ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), xlabel=objectives[0])
            ax.legend(loc="lower left", fontsize=8)
        for ax in axes[:, 0]:
            ax.set_ylabel(objectives[1])
        what = f"{UNITS[having[0]['fronts']['unit']]}, SFT standard deviations"
        text = f"{setting}, {what}: reached by all {len(having)} seeds, by half (line), by any"
        drawing.suptitle(text, fontsize=9.5)
    return drawing


def _band(ax: Axes, fronts: Sequence[np.ndarray], method: str, floor: np.ndarray) -> None:
    """Fill what some but not all seeds attain, and draw the border of what half of them attain."""
    every, half, some = (attained(fronts, count) for count in (len(fronts), (len(fronts) + 1) // 2, 1))
    x = np.unique(np.concatenate([floor[:1], every[:, 0], half[:, 0], some[:, 0]]))
    low, middle, high = (heights(corners, x).clip(floor[1]) for corners in (every, half, some))
    colour = METHODS[method].colours[0]
    ax.fill_between(x, low, high, step="pre", color=colour, alpha=0.2, lw=0)
    ax.step(x, middle, where="pre", color=colour, lw=1.4, label=title(method))


def write(study: str, setting: str, path: Path) -> None:
    """Write the figure of one setting of a study as PNG.

    Raises:
        ValueError: see `figure`; or no cell of the setting is finished.
    """
    cells = [cell for cell in results.present(study)[0] if cell["setting"] == setting]
    if not cells:
        raise ValueError(f"no cell of {setting} is finished: `bonesoup study {study} --settings {setting}` runs them")
    drawing = figure(cells)
    with appearing(path) as temporary:
        drawing.savefig(temporary, format="png", dpi=110)
