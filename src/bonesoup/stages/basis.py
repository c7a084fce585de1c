"""basis: the weight row of every slot. Backbone k trains on h_k = sum_i B_ki r_i (Bone Soups, section 3.1)."""

import numpy as np

from bonesoup.config import Settings
from bonesoup.files import appearing, read_json, write_json
from bonesoup.method.basis import circulant
from bonesoup.paths import BETA, ROWS


def run(settings: Settings, key: None) -> None:
    rows = weight_rows(len(settings.objectives), read_json(BETA)["beta"], settings.oracles)
    with appearing(ROWS) as folder:
        folder.mkdir()
        for name, group in settings.policies.items():
            slots = {slot: rows[slot] for slot in group.slots}
            write_json(folder / f"{name}.json", {"slots": slots})
            for slot, row in slots.items():
                print(f"basis: {name}/{slot} trains on " + _formula(settings.objectives, row))


def weight_rows(n: int, beta: float, oracles: list[list[float]]) -> dict[str, list[float]]:
    """slot -> weights [objective] of every policy the methods may need."""
    kinds = {
        "backbone": circulant(n, beta),
        "specialist": np.eye(n),
        "oracle": np.array(oracles).reshape(-1, n),
    }
    return {
        # Rounded, so that rows that agree up to float rounding are one policy.
        f"{kind}-{k}": np.round(row, 9).tolist()
        for kind, matrix in kinds.items()
        for k, row in enumerate(matrix, start=1)
    }


def _formula(objectives: list[str], row: list[float]) -> str:
    return " + ".join(f"{weight:g} {name}" for name, weight in zip(objectives, row, strict=True) if weight)
