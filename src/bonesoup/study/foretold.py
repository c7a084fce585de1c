"""What the diagnosis foretold of Bone Soup's interior gain, from the specialists alone, against what came."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from bonesoup.method.methods import MAIN
from bonesoup.study.results import DIFFERENCES, INTERIOR
from bonesoup.study.statistics import Mean, mean
from bonesoup.study.writing import NONE, rendered, written

VERTICES = "inner_product_vertex"
# With fewer seeds nearly every interval over them holds 0.
FEW = 3
VERDICTS = {1: "win", 0: "tie", -1: "lose"}


@dataclass(frozen=True)
class Compared:
    """A setting: the gain foretold and the one that came, over seeds, in the unit that the diagnosis judges by.

    verdicts: (foretold, came) of each seed, win, tie or lose by the interval over prompts.
    errors: of each seed, what came less what was foretold.
    vertices_foretold, vertices_came: the same gains at the vertices.
    """

    setting: str
    foretold: Mean
    came: Mean
    verdicts: tuple[tuple[str, str], ...]
    errors: tuple[float, ...]
    vertices_foretold: Mean
    vertices_came: Mean

    @property
    def hits(self) -> int:
        return sum(before == after for before, after in self.verdicts)


def compare(settings: list[str], cells: list[dict]) -> list[Compared]:
    """The settings that have a diagnosis, in their order.

    A setting that changes neither the policies nor a soup repeats another's cells; these count once.
    """
    found, seen = [], set()
    for setting in settings:
        own = []
        for cell in (cell for cell in cells if cell["setting"] == setting and _came(cell)):
            case = (cell["seed"], _foretold(cell)["gain"], _came(cell)[0])
            if case not in seen:
                seen.add(case)
                own.append(cell)
        if own:
            gains, came = [_foretold(cell)["gain"] for cell in own], [_came(cell)[0] for cell in own]
            found.append(
                Compared(
                    setting,
                    mean(gains),
                    mean(came),
                    tuple((_foretold(cell)["verdict"], VERDICTS[_sign(*_came(cell)[1:])]) for cell in own),
                    tuple(after - before for before, after in zip(gains, came, strict=True)),
                    mean([_foretold(cell)["vertices"]["value"] for cell in own]),
                    mean([_came(cell, VERTICES)[0] for cell in own]),
                )
            )
    return found


def markdown(found: list[Compared]) -> str:
    """The comparison as a table, with its hits and misses in words."""
    rows = [
        {
            "setting": one.setting,
            "seeds": str(one.came.seeds),
            "foretold": written(INTERIOR, one.foretold, signed=True),
            "verdict foretold": verdict(one.foretold),
            "came": written(INTERIOR, one.came, signed=True),
            "verdict": verdict(one.came),
            "seeds foretold right": f"{one.hits} of {one.came.seeds}",
            "vertices, foretold": written(VERTICES, one.vertices_foretold, signed=True),
            "came there": written(VERTICES, one.vertices_came, signed=True),
        }
        for one in found
    ]
    return f"{rendered(rows)}\n\n{summary(found)}"


def summary(found: list[Compared]) -> str:
    """Hits and misses over cells, and over settings with at least FEW seeds; how well the gains agree."""
    cells = sum(one.came.seeds for one in found)
    many = [one for one in found if one.came.seeds >= FEW]
    wrong = [one for one in many if verdict(one.foretold) != verdict(one.came)]
    text = f"Foretold right: {sum(one.hits for one in found)} of {cells} cells by their intervals over prompts"
    if many:
        text += f", and {len(many) - len(wrong)} of {len(many)} settings by their intervals over seeds"
    if wrong:
        told = [f"{one.setting} ({verdict(one.foretold)} foretold, {verdict(one.came)} came)" for one in wrong]
        text += f"; missed: {', '.join(told)}"
    counts = Counter(pair for one in found for pair in one.verdicts)
    text += ". " + ", ".join(
        f"{count} {before} foretold and {after} came" for (before, after), count in counts.most_common()
    )
    wins = sum(count for (_, after), count in counts.items() if after == "win")
    errors = [error for one in found for error in one.errors]
    text += f'; "always a win": {wins} of {cells}. Single gains came {min(errors):+.3f} to {max(errors):+.3f} off'
    gains = [[one.foretold.value for one in found], [one.came.value for one in found]]
    if len(found) > 2 and np.ptp(gains, axis=1).all():
        text += f". Correlation of the gains over settings {np.corrcoef(gains)[0, 1]:+.2f}"
    return f"{text}."


def verdict(found: Mean) -> str:
    """By the interval over seeds; one seed has none."""
    return VERDICTS[found.sign] if found.half is not None else NONE


def _sign(low: float, high: float) -> int:
    return int(low > 0) - int(high < 0)


def _foretold(cell: dict) -> dict:
    return cell["diagnosis"]["prediction"][cell["diagnosis"]["unit"]]


def _came(cell: dict, metric: str = INTERIOR) -> list[float] | None:
    """[value, low, high] of the difference in the diagnosis's unit, inside; None without a diagnosis."""
    if not cell.get("diagnosis"):
        return None
    grid = next(iter(cell["grids"].values()))
    return grid.get(cell["diagnosis"]["unit"], {}).get(DIFFERENCES, {}).get(MAIN, {}).get(metric)
