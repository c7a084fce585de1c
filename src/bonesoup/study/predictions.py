"""Compare the gains of Bone Soup and of every other soup that a diagnosis predicted with what was measured."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bonesoup.method.methods import MAIN, title
from bonesoup.study.results import DIFFERENCES, INTERIOR
from bonesoup.study.statistics import Mean, mean
from bonesoup.study.writing import NONE, rendered, written

VERTICES = "inner_product_vertex"
# Parts of the grid, with the metric that measures each.
PARTS = {"interior": INTERIOR, "grid": "inner_product", "vertices": VERTICES}
# With fewer seeds nearly every interval contains 0.
FEW = 3
CAVEAT = "Predicted for policies trained as long as the specialists: what fewer updates per policy cost is not in it."
VERDICTS = {1: "win", 0: "tie", -1: "lose"}


@dataclass(frozen=True)
class Compared:
    """Predicted and measured gain of one setting, over seeds, in the unit of the diagnosis' verdict.

    Attributes:
        verdicts: (predicted, measured) of each seed: win, tie or lose, by the interval over prompts.
        errors: measured minus predicted gain, of each seed.
        vertices_missed: gain at the vertices of each seed, predicted from missed moments alone.
        vertices_predicted: the same with the cost of extrapolation; empty for cells that ran before it was measured.
        vertices_measured: what came.
    """

    setting: str
    predicted: Mean
    measured: Mean
    verdicts: tuple[tuple[str, str], ...]
    errors: tuple[float, ...]
    vertices_missed: tuple[float, ...]
    vertices_predicted: tuple[float, ...]
    vertices_measured: tuple[float, ...]

    @property
    def hits(self) -> int:
        return sum(before == after for before, after in self.verdicts)


def compare(settings: list[str], cells: list[dict]) -> list[Compared]:
    """Compare each setting that has a diagnosis, in the given order.

    A setting that changes neither the policies nor a soup repeats another's cells; these count once.
    """
    compared, seen = [], set()
    for setting in settings:
        distinct = []
        for cell in (cell for cell in cells if cell["setting"] == setting and _measured(cell)):
            case = (cell["seed"], _predicted(cell)["gain"], _measured(cell)[0])
            if case not in seen:
                seen.add(case)
                distinct.append(cell)
        if distinct:
            predicted = [_predicted(cell) for cell in distinct]
            measured = [_measured(cell) for cell in distinct]
            known = all("extrapolating" in forecast for forecast in predicted)
            pairs = list(zip(predicted, measured, strict=True))
            compared.append(
                Compared(
                    setting,
                    mean([forecast["gain"] for forecast in predicted]),
                    mean([value for value, _, _ in measured]),
                    tuple((before["verdict"], VERDICTS[_sign(low, high)]) for before, (_, low, high) in pairs),
                    tuple(value - before["gain"] for before, (value, _, _) in pairs),
                    tuple(_missed(forecast) for forecast in predicted),
                    tuple(forecast["vertices"]["value"] for forecast in predicted) if known else (),
                    tuple(_measured(cell, VERTICES)[0] for cell in distinct),
                )
            )
    return compared


def markdown(compared: list[Compared]) -> str:
    """Write the comparison as a table, with its hits and misses in words."""
    rows = [
        {
            "setting": row.setting,
            "seeds": str(row.measured.seeds),
            "predicted": written(INTERIOR, row.predicted, signed=True),
            "predicted verdict": verdict(row.predicted),
            "measured": written(INTERIOR, row.measured, signed=True),
            "measured verdict": verdict(row.measured),
            "seeds predicted right": f"{row.hits} of {row.measured.seeds}",
            "at the vertices, from missed moments": _written(row.vertices_missed),
            "with extrapolation": _written(row.vertices_predicted),
            "measured there": _written(row.vertices_measured),
        }
        for row in compared
    ]
    return f"{rendered(rows)}\n\n{summary(compared)}"


def _written(values: Sequence[float]) -> str:
    return written(VERTICES, mean(values), signed=True) if values else NONE


def soups(settings: list[str], cells: list[dict]) -> tuple[list[dict[str, str]], str]:
    """Return the rows of a table of every soup's gain, predicted and measured, where cells hold the predictions.

    A sentence says by how much the predictions of single cells are off.
    """
    rows, errors = [], {part: [] for part in PARTS}
    for setting in settings:
        with_soups = [
            cell for cell in cells if cell["setting"] == setting and (cell.get("diagnosis") or {}).get("soups")
        ]
        for method in dict.fromkeys(method for cell in with_soups for method in cell["diagnosis"]["soups"]):
            having = [cell for cell in with_soups if _measured(cell, INTERIOR, method)]
            if not having:
                continue
            row = {"setting": setting, "method": title(method), "seeds": str(len(having))}
            for part, metric in PARTS.items():
                predicted = [cell["diagnosis"]["soups"][method][part] for cell in having]
                measured = [_measured(cell, metric, method)[0] for cell in having]
                row[f"{part}, predicted"] = written(metric, mean(predicted), signed=True)
                row[f"{part}, measured"] = written(metric, mean(measured), signed=True)
                errors[part] += _off(predicted, measured).tolist()
            rows.append(row)
    means = ", ".join(f"{part} {mean(values).value:.3f}" for part, values in errors.items() if values)
    return rows, f"Single predictions are off by this much on average: {means}. {CAVEAT}"


def summary(compared: list[Compared]) -> str:
    """Count hits and misses over cells, and over settings with at least FEW seeds; say how well the gains agree."""
    cells = sum(row.measured.seeds for row in compared)
    many = [row for row in compared if row.measured.seeds >= FEW]
    wrong = [row for row in many if verdict(row.predicted) != verdict(row.measured)]
    right = f"Predicted right: {sum(row.hits for row in compared)} of {cells} cells by their intervals over prompts"
    if many:
        right += f", and {len(many) - len(wrong)} of {len(many)} settings by their intervals over seeds"
    if wrong:
        missed = [
            f"{row.setting} (predicted {verdict(row.predicted)}, measured {verdict(row.measured)})" for row in wrong
        ]
        right += f"; missed: {', '.join(missed)}"
    counts = Counter(pair for row in compared for pair in row.verdicts)
    pairs = [f"{count} {before}/{after}" for (before, after), count in counts.most_common()]
    wins = sum(count for (_, after), count in counts.items() if after == "win")
    errors = [error for row in compared for error in row.errors]
    sentences = [
        right,
        f'Verdicts (predicted/measured): {", ".join(pairs)}; "always a win" would be right in {wins} of {cells}',
        f"Measured minus predicted gain: {min(errors):+.3f} to {max(errors):+.3f}",
    ]
    gains = [[row.predicted.value for row in compared], [row.measured.value for row in compared]]
    if len(compared) > 2 and np.ptp(gains, axis=1).all():
        sentences.append(f"Correlation of the gains over settings {np.corrcoef(gains)[0, 1]:+.2f}")
    if known := [row for row in compared if row.vertices_predicted]:
        from_moments = np.concatenate([_off(row.vertices_missed, row.vertices_measured) for row in known])
        whole = np.concatenate([_off(row.vertices_predicted, row.vertices_measured) for row in known])
        sentences.append(
            f"At the vertices the prediction is off by {whole.mean():.3f} on average, and by "
            f"{from_moments.mean():.3f} without the cost of extrapolation ({len(whole)} cells)"
        )
    return "\n".join(f"- {sentence}." for sentence in sentences)


def _off(predicted: Sequence[float], measured: Sequence[float]) -> np.ndarray:
    return np.abs(np.subtract(predicted, measured))


def verdict(gain: Mean) -> str:
    """Judge a gain by its interval over seeds; a single seed has none."""
    return VERDICTS[gain.sign] if gain.half is not None else NONE


def _sign(low: float, high: float) -> int:
    return int(low > 0) - int(high < 0)


def _predicted(cell: dict) -> dict:
    return cell["diagnosis"]["prediction"][cell["diagnosis"]["unit"]]


def _missed(predicted: dict) -> float:
    """Return the gain at the vertices predicted from missed moments alone."""
    return predicted["vertices"]["value"] + predicted.get("extrapolating", {}).get("vertices", 0.0)


def _measured(cell: dict, metric: str = INTERIOR, method: str = MAIN) -> list[float] | None:
    """Return [value, low, high] of the difference in the diagnosis's unit; None without a diagnosis."""
    if not cell.get("diagnosis"):
        return None
    grid = next(iter(cell["grids"].values()))
    return grid.get(cell["diagnosis"]["unit"], {}).get(DIFFERENCES, {}).get(method, {}).get(metric)
