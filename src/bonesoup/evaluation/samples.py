"""Per-sample rows of every method (out/fronts/<method>/samples.parquet) as arrays that line up.

Every comparison in this package is paired by prompt, so what does not line up is refused here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from bonesoup.evaluation.units import UNITS
from bonesoup.files import read_jsonl

# Logged by a policy that starts from a soup (training/from_soup.py).
DRIFT = "reward/drift"


@dataclass(frozen=True, eq=False)
class Front:
    """The scored answers of a method on the grid.

    Shapes: preferences [grid, objective]; reward, gold and judge [prompt, grid, objective], in standard deviations
    of the SFT policy; kl [prompt, grid], nats per response; tokens [prompt, grid].
    """

    method: str
    objectives: tuple[str, ...]
    prompts: tuple[str, ...]
    preferences: np.ndarray
    reward: np.ndarray
    gold: np.ndarray | None
    kl: np.ndarray
    tokens: np.ndarray
    judge: np.ndarray | None = None

    @property
    def units(self) -> tuple[str, ...]:
        """Return the units it is scored in, the most trustworthy first."""
        return tuple(unit for unit in UNITS if getattr(self, unit) is not None)

    def scores(self, unit: str) -> np.ndarray:
        """Return the scores [prompt, grid, objective] in a unit it has."""
        return getattr(self, unit)


def shared_units(fronts: Sequence[Front]) -> tuple[str, ...]:
    """List the units that all fronts are scored in, the most trustworthy first."""
    return tuple(unit for unit in UNITS if all(unit in front.units for front in fronts))


@dataclass(frozen=True)
class Response:
    """One sampled answer to a preference; preference and scores are in the order of the objectives."""

    preference: tuple[float, ...]
    text: str
    reward: tuple[float, ...]
    gold: tuple[float, ...] | None
    tokens: int
    finished: bool
    judge: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Example:
    """One test prompt and what each method answered at each of its points: {method: [Response per point]}."""

    prompt: str
    responses: dict[str, list[Response]]


def read_fronts(paths: Mapping[str, Path], objectives: Sequence[str]) -> list[Front]:
    """Read {method: samples.parquet} and check that all methods answered the same prompts in one order.

    Raises:
        ValueError: a column is missing, a value is not finite, points are incomplete or prompts differ.
    """
    fronts = [read_front(path, method, objectives) for method, path in paths.items()]
    check_prompts(fronts)
    return fronts


def check_prompts(fronts: Sequence[Front]) -> None:
    """Refuse fronts whose prompt ids differ in any place.

    Raises:
        ValueError: names the method and its first differing id.
    """
    first = fronts[0]
    for front in fronts[1:]:
        place = _difference(first.prompts, front.prompts)
        if place is not None:
            mine, other = (_at(f.prompts, place) for f in (front, first))
            raise ValueError(
                f"{front.method} and {first.method} were not evaluated on the same prompts: "
                f"at position {place} {front.method} has {mine}, {first.method} has {other}: "
                f"score {front.method} again on the prompts of {first.method}"
            )


def _difference(a: Sequence[str], b: Sequence[str]) -> int | None:
    for place in range(max(len(a), len(b))):
        if a[place : place + 1] != b[place : place + 1]:
            return place
    return None


def _at(ids: Sequence[str], place: int) -> str:
    return repr(ids[place]) if place < len(ids) else "nothing"


def read_front(path: Path, method: str, objectives: Sequence[str]) -> Front:
    """Read one method's samples; see `read_fronts`."""
    return front_of(_read_rows(path, method, objectives), method, objectives, path)


def front_of(rows: pd.DataFrame, method: str, objectives: Sequence[str], path: Path | str = "samples") -> Front:
    """Convert rows of samples.parquet to arrays; `path` names them in a message."""
    points = np.sort(rows["point"].unique())
    if not np.array_equal(points, np.arange(len(points))):
        raise ValueError(f"{path}: points of {method} must be 0..{len(points) - 1}, found {points.tolist()}")
    parts = [rows[rows["point"] == point] for point in points]
    ids = tuple(parts[0]["prompt_id"])
    for point, part in zip(points, parts, strict=True):
        place = _difference(ids, tuple(part["prompt_id"]))
        if place is not None:
            raise ValueError(
                f"{path}: point {point} of {method} has {_at(tuple(part['prompt_id']), place)} "
                f"at position {place}, point 0 has {_at(ids, place)}: "
                "every point needs the same prompts in the same order"
            )
    mu = [f"mu_{name}" for name in objectives]
    scores = {unit: _stack(parts, columns) for unit in UNITS if (columns := _columns(rows, unit, objectives))}
    return Front(
        method=method,
        objectives=tuple(objectives),
        prompts=ids,
        preferences=np.stack([part[mu].to_numpy(float)[0] for part in parts]),
        kl=_stack(parts, ["kl"])[..., 0],
        tokens=_stack(parts, ["tokens"])[..., 0],
        **{"gold": None} | scores,
    )


def _stack(parts: list[pd.DataFrame], columns: list[str]) -> np.ndarray:
    return np.stack([part[columns].to_numpy(float) for part in parts], axis=1)


def _columns(rows: pd.DataFrame, unit: str, objectives: Sequence[str]) -> list[str]:
    """Name the columns of a unit, in the order of the objectives; none if the rows were not scored in it."""
    columns = [f"{unit}_{name}" for name in objectives]
    return columns if all(column in rows for column in columns) else []


def _read_rows(path: Path, method: str, objectives: Sequence[str]) -> pd.DataFrame:
    if not Path(path).is_file():
        raise ValueError(f"{path} does not exist: run `bonesoup stage front {method}` first")
    rows = pd.read_parquet(path)
    scores = [f"{kind}_{name}" for kind in ("mu", "reward") for name in objectives] + ["kl", "tokens"]
    needed = ["method", "point", "prompt_id", "prompt", "response", "finished", *scores]
    if missing := [column for column in needed if column not in rows]:
        raise ValueError(f"{path}: no column {', '.join(missing)}; found {', '.join(rows.columns)}")
    if rows.empty:
        raise ValueError(f"{path} has no rows")
    if (rows["method"] != method).any():
        raise ValueError(f"{path} holds rows of {sorted(rows['method'].unique())}, expected only {method}")
    numbers = scores + _columns(rows, "gold", objectives) + _columns(rows, "judge", objectives)
    bad = ~np.isfinite(rows[numbers].to_numpy(float))
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise ValueError(
            f"{path}: {numbers[column]} of {method} is {rows[numbers[column]].iloc[row]} at point "
            f"{rows['point'].iloc[row]}, row {row} (prompt {rows['prompt_id'].iloc[row]}); "
            f"{int(bad.sum())} such values in all"
        )
    return rows


def read_responses(path: Path, method: str, objectives: Sequence[str]) -> list[tuple[list[float], list[str]]]:
    """Read what a method answered: for each of its points, the preference [objective] and the texts."""
    rows = _read_rows(path, method, objectives)
    mu = [f"mu_{name}" for name in objectives]
    return [
        (part[mu].iloc[0].astype(float).tolist(), part["response"].astype(str).tolist())
        for _, part in rows.groupby("point")
    ]


def read_examples(paths: Mapping[str, Path], objectives: Sequence[str], count: int) -> list[Example]:
    """`count` prompts spread evenly over the test set (not chosen by result), with every method's answers."""
    tables = {method: _read_rows(path, method, objectives) for method, path in paths.items()}
    first = next(iter(tables.values()))
    prompts = first[first["point"] == 0].reset_index(drop=True)
    chosen = np.linspace(0, len(prompts) - 1, min(count, len(prompts))).round().astype(int)
    return [
        Example(
            prompt=prompts["prompt"][row],
            responses={m: _responses(t, prompts["prompt_id"][row], objectives) for m, t in tables.items()},
        )
        for row in chosen
    ]


def _responses(rows: pd.DataFrame, prompt_id: str, objectives: Sequence[str]) -> list[Response]:
    mine = rows[rows["prompt_id"] == prompt_id].sort_values("point")

    def scores(unit: str) -> list[tuple[float, ...] | None]:
        columns = _columns(mine, unit, objectives)
        return [tuple(row) for row in mine[columns].to_numpy(float).tolist()] if columns else [None] * len(mine)

    preference, reward, gold, judge = map(scores, ("mu", "reward", "gold", "judge"))
    return [
        Response(
            preference[row],
            str(mine["response"].iloc[row]),
            reward[row],
            gold[row],
            int(mine["tokens"].iloc[row]),
            bool(mine["finished"].iloc[row]),
            judge[row],
        )
        for row in range(len(mine))
    ]


def read_training(logs: Mapping[str, Path]) -> dict[str, list[dict]]:
    """Read {slot: steps.jsonl}: the per-step log of every policy, with its KL to the SFT policy."""
    return {slot: [_towards_sft(row) for row in read_jsonl(path)] for slot, path in logs.items()}


def _towards_sft(row: dict) -> dict:
    """Convert the KL of a correction from the soup it starts from to the SFT policy.

    log(pi / sft) = log(pi / soup) + log(soup / sft), and the drift reward is minus the last term.
    """
    kept = {key: value for key, value in row.items() if key != DRIFT}
    return kept | {"kl": row["kl"] - row[DRIFT]} if DRIFT in row else row
