"""Keep the result of each finished cell in a small file, studies/results/NAME/CELL.json, enough for every table."""

import json
import os
import platform
import re
from pathlib import Path
from typing import Any

from bonesoup.evaluation.units import UNITS
from bonesoup.files import appearing, read_json
from bonesoup.method.methods import BASELINE, METHODS, ORACLE
from bonesoup.study import cells as plans
from bonesoup.study.cells import STUDIES, Cell, alike

RESULTS = STUDIES / "results"
DIFFERENCES, RATIOS = f"difference_to_{BASELINE}", f"ratio_to_{BASELINE}"
KEPT = (
    "finding",
    "objectives",
    "references",
    "interior",
    "confidence",
    "bootstrap",
    "prompts",
    "basis",
    "seek",
    "diagnosis",
    "scales",
    "costs",
)
INTERIOR = "inner_product_interior"
METRICS = re.compile(r"hypervolume@|inner_product|controllability$|kl$|tokens$")
DIGITS = 5


def path(study: str, cell: Cell) -> Path:
    return RESULTS / study / f"{cell.name}.json"


def known(study: str, cell: Cell) -> bool:
    """Tell whether a cell has a result.

    Raises:
        ValueError: the result was made with other settings or data.
    """
    where = path(study, cell)
    if not where.is_file():
        return False
    if not _is(read_json(where), cell):
        raise ValueError(
            f"{where} was made with other settings or data than the study has now: remove it to run the cell again"
        )
    return True


def write(
    study: str, cell: Cell, report: dict, fronts: dict, commit: str, stages: dict[str, dict], seconds: float
) -> None:
    """Write a cell's result.

    Args:
        report: the cell's report.json.
        fronts: the cell's fronts.json, whose means at each preference are kept.
        commit: whose code ran.
        stages: {"seconds", "cpu", "peak_mb"} of each stage; those that the run cache gave took so long where they ran.
        seconds: the whole cell took.
    """
    row = {"setting": cell.setting, "seed": cell.seed, "profile": cell.profile, "changes": cell.changes}
    row |= {"identity": cell.identity(), "commit": commit}
    row |= {"machine": machine(cell.document()["device"]), "seconds": round(seconds)}
    row |= {key: report[key] for key in KEPT if key in report} | {"diagnosis": _diagnosis(report["diagnosis"])}
    row |= {"stages": stages, "spent": _spent(cell, stages)}
    row["grids"] = {name: _grid(grid) for name, grid in report["grids"].items()}
    row["fronts"] = _fronts(fronts)
    with appearing(path(study, cell)) as temporary:
        temporary.write_text(json.dumps(row, separators=(",", ":"), ensure_ascii=False, allow_nan=False) + "\n")


def read(study: str) -> list[dict]:
    """Read every result of a study, ordered by setting and seed."""
    rows = [read_json(file) for file in sorted((RESULTS / study).glob("*.json"))]
    return sorted(rows, key=lambda row: (row["setting"], row["seed"]))


def present(study: str) -> tuple[list[dict], list[str]]:
    """Read the results of a study's present settings, and the names of the others.

    Raises:
        ValueError: no such study.
    """
    plan, rows = plans.read(study), read(study)
    return current(rows, plans.cells(plan, sorted({row["seed"] for row in rows}), []))


def current(rows: list[dict], cells: list[Cell]) -> tuple[list[dict], list[str]]:
    """Split results into those of the present settings of the study, and the names of the others."""
    named = {cell.name: cell for cell in cells}
    present, others = [], []
    for row in rows:
        name = f"{row['setting']}-{row['seed']}"
        if name in named and _is(row, named[name]):
            present.append(row)
        else:
            others.append(name)
    return present, others


def _is(row: dict, cell: Cell) -> bool:
    return alike(row["identity"], cell.identity())


def _spent(cell: Cell, stages: dict[str, dict]) -> dict[str, dict]:
    """Map each method to {"training", "training_cpu", "answering", "answering_cpu": seconds, "peak_mb"}, if known."""
    document = cell.document()
    costs: dict[str, dict] = {}
    for method in document["methods"]:
        record = METHODS[method]
        kind = record.policies.kind if record.policies else None
        used = [
            f"policy@{group}"
            for group, entry in document["policies"].items()
            if kind in {slot.rpartition("-")[0] for slot in entry["slots"]}
        ]
        used += [record.stage] * bool(record.stage)
        front = f"front@{method}"
        costs[method] = {}
        for part, names in (("training", used), ("answering", [front])):
            if method == ORACLE and part == "training":
                continue  # Its group reuses policies of others, so its stage's time does not measure its cost.
            for key, suffix in (("seconds", ""), ("cpu", "_cpu")):
                spent = [stages.get(stage, {}).get(key) for stage in names]
                if None not in spent:
                    costs[method][part + suffix] = round(sum(spent), 1)
        if peaks := [stages[stage]["peak_mb"] for stage in [*used, front] if stage in stages]:
            costs[method]["peak_mb"] = max(peaks)
    return costs


def machine(device: str) -> dict[str, Any]:
    """Return {"cpu", "cores"}, and "gpu" if the device is one."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file() and (match := re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE)):
        name = match[1]
    facts = {"cpu": name, "cores": os.cpu_count()}
    if device.startswith("cuda"):
        import torch

        facts["gpu"] = torch.cuda.get_device_name(device)
    return facts


def _grid(grid: dict) -> dict:
    """Shorten estimates to [value, low, high]; of ratios, keep only hypervolumes."""
    small: dict[str, Any] = {"points": grid["points"]}
    for unit in (unit for unit in UNITS if unit in grid):
        small[unit] = {}
        for kind in ("methods", DIFFERENCES, RATIOS):
            small[unit][kind] = {
                method: {
                    metric: [_round(estimate[key]) for key in ("value", "low", "high")]
                    for metric, estimate in values.items()
                    if METRICS.match(metric) and (kind != RATIOS or metric.startswith("hypervolume"))
                }
                for method, values in grid[unit][kind].items()
            }
    return small


def _diagnosis(diagnosis: dict | None) -> dict | None:
    """Shorten the predictions of every soup to their values in the unit of the verdict."""
    if not diagnosis:
        return None
    unit = diagnosis["unit"]
    soups = {
        soup["method"]: {
            "interior": _round(soup[unit]["gain"]),
            "grid": _round(soup[unit]["grid"]["value"]),
            "vertices": _round(soup[unit]["vertices"]["value"]),
        }
        for soup in diagnosis["soups"]
    }
    return diagnosis | {"soups": soups}


def _fronts(measured: dict) -> dict:
    """Keep {"unit", "methods": {method: mean scores [point, objective]}}."""
    means = {
        method: [[_round(value) for value in point["mean"]] for point in points]
        for method, points in measured["methods"].items()
    }
    return {"unit": measured["unit"], "methods": means}


def _round(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
