"""Figures for documents (PNG): fronts, utility by preference, training curves.

A method keeps its colour and marker everywhere, the HTML report included.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations, cycle, product
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse
from scipy.stats import chi2

from bonesoup.evaluation.compare import Results, regions
from bonesoup.evaluation.units import UNITS
from bonesoup.files import appearing
from bonesoup.method.methods import BASELINE, METHODS, SFT, title

_OBJECTIVES = ("#cc79a7", "#56b4e9", "#e69f00", "#444444")
STYLE = {
    "font.size": 9.5,
    "font.family": "DejaVu Sans",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8a8a8a",
    "axes.labelcolor": "#333333",
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e8e8e6",
    "grid.linewidth": 0.8,
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "legend.frameon": False,
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
    "savefig.dpi": 170,
}


def write_plots(results: Results, training: Mapping[str, Sequence[dict]], out: Path, main: str) -> list[Path]:
    """Write fronts.png, utility.png and, where there are logs, training.png into the folder `out`.

    Args:
        main: the method on whose front preferences are named.
    """
    with matplotlib.rc_context(STYLE):
        figures = {
            "fronts": fronts(results, main),
            "utility": utility(results),
            "training": training_curves(training),
        }
        paths = []
        for stem, figure in figures.items():
            if figure is not None:
                path = out / f"{stem}.png"
                with appearing(path) as temporary:
                    figure.savefig(temporary, format="png")
                paths.append(path)
    return paths


def fronts(results: Results, main: str) -> Figure:
    """Plot mean scores of every method with ellipses of the mean: learned and gold, each pair of objectives."""
    pairs = list(combinations(range(len(results.objectives)), 2))
    units = results.units
    # With one pair the units stand side by side; several pairs need a row for each unit.
    across = len(pairs) == 1
    shape = (1, len(units)) if across else (len(units), len(pairs))
    figure = Figure(figsize=(4.9 * shape[1] if across else 4.0 * shape[1], 4.3 * shape[0]))
    axes = figure.subplots(*shape, squeeze=False)
    for ax, (unit, pair) in zip(axes.flat, product(units, pairs), strict=True):
        _front(ax, results, unit, pair, main)
        ax.set_title(UNITS[unit].capitalize())
    _legend(figure, axes[0, 0])
    return figure


def _legend(figure: Figure, ax: Axes) -> None:
    """Name what is drawn above all panels, five names a line at most."""
    handles, labels = ax.get_legend_handles_labels()
    lines = max(1, -(-len(labels) // 5))
    figure.legend(handles, labels, loc="outside upper center", ncols=max(1, -(-len(labels) // lines)))


def _front(ax: Axes, results: Results, unit: str, pair: tuple[int, int], main: str) -> None:
    i, j = pair
    radius = np.sqrt(chi2.ppf(results.confidence, 2))
    for method in results.methods:
        block = results.home(method)
        points = block.points[unit][method][:, pair]
        colour = METHODS[method].colours[0]
        for point, covariance in zip(points, block.covariances[unit][method], strict=True):
            values, vectors = np.linalg.eigh(covariance[np.ix_(pair, pair)])
            size = 2 * radius * np.sqrt(values.clip(0))
            angle = np.degrees(np.arctan2(vectors[1, 0], vectors[0, 0]))
            ax.add_patch(Ellipse(point, *size, angle=angle, color=colour, alpha=0.10, lw=0))
        # Beyond two objectives the grid has no order, so a line would be meaningless.
        if len(results.objectives) == 2 and block is results.blocks[0]:
            ax.plot(*points.T, color=colour, lw=1.6, alpha=0.85)
        ax.plot(
            *points.T,
            linestyle="none",
            marker=METHODS[method].marker,
            color=colour,
            mec="white",
            mew=0.8,
            ms=9 if method == SFT else 6.5 * _grown(method),
            label=title(method),
            zorder=4 if method == SFT else 3,
        )
    _label_points(ax, results, unit, pair, main)
    ax.set_xlabel(f"{results.objectives[i]}  (SFT standard deviations)")
    ax.set_ylabel(f"{results.objectives[j]}  (SFT standard deviations)")


def _grown(method: str) -> float:
    """Return the factor that makes a marker as large as the others: a star fills less of its circle."""
    return 1.6 if METHODS[method].marker == "*" else 1.0


def _label_points(ax: Axes, results: Results, unit: str, pair: tuple[int, int], main: str) -> None:
    """Name the preference at the ends and the middle of one front; two objectives only."""
    if len(results.objectives) > 2:
        return
    method = next(m for m in (main, *results.methods) if m in results.methods and m != SFT)
    block = results.home(method)
    points = block.points[unit][method][:, pair]
    middle, last = len(points) // 2, len(points) - 1
    # Clear of every front and of the axis: above it, and for the last end on the side of the origin.
    sides = {0: (5, 8, "left", "bottom"), middle: (9, 7, "left", "bottom"), last: (-7, -9, "right", "top")}
    for place, (x, y, ha, va) in sides.items():
        weights = ", ".join(f"{w:g}" for w in block.preferences[place].round(3))
        ax.annotate(
            f"μ = ({weights})",
            points[place],
            xytext=(x, y),
            textcoords="offset points",
            fontsize=8,
            color="#555555",
            ha=ha,
            va=va,
        )
    ax.margins(0.1)


def utility(results: Results) -> Figure | None:
    """Plot the gain in mu . R(mu) over Rewarded Soup: along the preference for two objectives, by region beyond."""
    if BASELINE not in results.blocks[0].methods:
        return None
    draw = _gain_lines if len(results.objectives) == 2 else _gain_bars
    figure = Figure(figsize=(4.9 * len(results.units), 3.6))
    axes = figure.subplots(1, len(results.units), squeeze=False, sharey=True)[0]
    for ax, unit in zip(axes, results.units, strict=True):
        draw(ax, results, unit)
        ax.axhline(0, color=METHODS[BASELINE].colours[0], lw=1.4)
        ax.set_title(UNITS[unit].capitalize())
    axes[0].set_ylabel(f"utility gained over {title(BASELINE)}")
    _legend(figure, axes[0])
    return figure


def _gain_lines(ax: Axes, results: Results, unit: str) -> None:
    for method in results.rivals:
        block = results.home(method)
        gain, mu, colour = block.gains[unit][method], block.preferences[:, 0], METHODS[method].colours[0]
        style = {
            "color": colour,
            "marker": METHODS[method].marker,
            "ms": 5 * _grown(method),
            "mec": "white",
            "mew": 0.7,
        }
        if len(block.preferences) == len(results.blocks[0].preferences):
            ax.fill_between(mu, gain.low, gain.high, color=colour, alpha=0.15, lw=0)
            ax.plot(mu, gain.value, **style, lw=1.6, label=title(method))
        else:
            error = np.abs(np.stack([gain.low, gain.high]) - gain.value)
            ax.errorbar(mu, gain.value, error, **style, lw=0, elinewidth=1.3, label=title(method))
    grid = results.blocks[0].preferences
    inside = grid[regions(grid, results.interior)["interior"], 0]
    if len(inside):
        ax.axvspan(inside.min(), inside.max(), color="#000000", alpha=0.035, lw=0)
        ax.text(inside.mean(), 0.985, "interior", transform=ax.get_xaxis_transform(), ha="center", va="top",
                fontsize=8, color="#777777")  # fmt: skip
    ax.set_xlabel(f"weight on {results.objectives[0]}")


def _gain_bars(ax: Axes, results: Results, unit: str) -> None:
    names = ("interior", "edge", "vertex")
    rivals = results.rivals
    step = min(0.28, 0.84 / max(len(rivals), 1))
    for place, method in enumerate(rivals):
        differences, label = results.home(method).differences[unit][method], title(method)
        for x, region in enumerate(names):
            if (e := differences.get(f"inner_product_{region}")) is None:
                continue
            at, colour = x + (place - (len(rivals) - 1) / 2) * step, METHODS[method].colours[0]
            ax.bar(at, e.value, 0.9 * step, color=colour, label=label)
            label = None
            ax.plot([at, at], [e.low, e.high], color="#222222", lw=1.2)
    ax.set_xticks(range(3), names)
    ax.grid(axis="x", visible=False)


def training_curves(training: Mapping[str, Sequence[dict]]) -> Figure | None:
    """Plot for every policy mean normalised reward by objective, and below it KL to SFT; five policies a row.

    The score of a judge is dashed, in the colour of its reward.
    """
    training = {slot: rows for slot, rows in training.items() if rows}
    if not training:
        return None
    across = min(len(training), 5)
    bands = -(-len(training) // across)
    figure = Figure(figsize=(max(2.1 * across, 5), 3.9 * bands))
    axes = figure.subplots(2 * bands, across, squeeze=False, sharex=True)
    for ax in axes.flat:
        ax.set_visible(False)
    for place, (slot, rows) in enumerate(training.items()):
        reward, kl = axes[2 * (place // across) : 2 * (place // across) + 2, place % across]
        steps = [row["step"] for row in rows]
        keys = [key for key in rows[0] if key.startswith("reward/")]
        for key, colour in zip(keys, cycle(_OBJECTIVES), strict=False):
            name = key.removeprefix("reward/")
            reward.plot(steps, [row[key] for row in rows], color=colour, lw=1.4, label=name)
            if (judge := f"judge/{name}") in rows[0]:
                scores = [row[judge] for row in rows]
                reward.plot(steps, scores, color=colour, lw=1.2, ls=(0, (3, 1.5)), label=f"{name}, judge")
        kl.plot(steps, [row["kl"] for row in rows], color="#333333", lw=1.4)
        reward.set_title(slot, fontsize=9)
        for ax in (reward, kl):
            ax.set_visible(True)
        if place % across == 0:
            reward.set_ylabel("reward")
            kl.set_ylabel("KL to SFT (nats)")
    for axis in axes:
        shown = [ax for ax in axis if ax.get_visible()]
        for ax in shown[1:]:
            ax.sharey(shown[0])
            ax.tick_params(labelleft=False)
        shown[0].autoscale(axis="y")
    for kl in axes[1::2].flat:
        kl.tick_params(labelbottom=True)
        kl.set_xlabel("step")
    _legend(figure, axes[0, 0])
    return figure
