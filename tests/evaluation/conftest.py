"""Synthetic samples.parquet files with the shape of a real run: a concave front, prompt effects, noise."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bonesoup.method.basis import circulant, coefficients
from bonesoup.method.preferences import lattice

OBJECTIVES = {2: ["helpful", "harmless"], 3: ["helpful", "harmless", "humor"]}
TEXTS = [
    "pack a lunch and bring a map, check the weather, wear good boots",
    "please be careful. ask an expert first",
    "sorry, i cannot help with that. stay safe",
    "rinse the rice, simmer for ten minutes, rest it. why did the rice blush?",
]


def reach(method: str, mu: np.ndarray) -> np.ndarray:
    """Return mean scores [objective] of a method at mu: specialists at the vertices, blends bulge by method."""
    n = len(mu)
    gain = {"rewarded": 0.75, "bone": 1.05, "oracle": 1.1, "sft": 0.0}[method]
    peak = 1 - 1.6 * (1 - mu)
    blend = 1 - (mu**2).sum()
    short = 0.15 * (method == "bone") * (mu.max() == 1)
    return 0.0 * mu if method == "sft" else peak - short * mu + gain * blend * np.ones(n) * 0.9


def rows_of(method: str, n: int, prompts: int, preferences: np.ndarray, seed: int = 0) -> pd.DataFrame:
    """Make the rows of a method's samples.parquet; prompt effects are shared by all methods."""
    names = OBJECTIVES[n]
    effects = np.random.default_rng(99).normal(0, 0.8, (prompts, n))
    rng = np.random.default_rng([seed, len(method)])
    tables = []
    for point, mu in enumerate(preferences):
        reward = reach(method, mu) + effects + rng.normal(0, 0.4, (prompts, n))
        gold = 0.8 * reward + rng.normal(0, 0.2, (prompts, n))
        table = {
            "method": method,
            "point": point,
            "prompt_id": [f"test-{i:04d}" for i in range(prompts)],
            "prompt": [f"how do i plan trip number {i} ?" for i in range(prompts)],
            "response": [TEXTS[(i + point + len(method)) % 4] for i in range(prompts)],
            "tokens": rng.integers(5, 16, prompts),
            "finished": rng.random(prompts) < 0.95,
            "kl": 0.0 if method == "sft" else rng.normal(2.5, 1.0, prompts),
        }
        for i, name in enumerate(names):
            table |= {f"mu_{name}": mu[i], f"reward_{name}": reward[:, i], f"gold_{name}": gold[:, i]}
        tables.append(pd.DataFrame(table))
    return pd.concat(tables, ignore_index=True)


def grids(n: int) -> dict[str, np.ndarray]:
    grid = lattice(n, 10 if n == 2 else 4)
    oracle = grid[[0, 3, 5, 7, 10]] if n == 2 else grid[(grid.max(axis=1) == 1) | (grid.min(axis=1) > 0)]
    return {"sft": np.full((1, n), 1 / n), "rewarded": grid, "bone": grid, "oracle": oracle}


def coefficients_of(n: int) -> dict[str, dict]:
    """Return the merging coefficients of every method, as `write_report` takes them."""
    given = grids(n)
    slots = {
        m: [f"{kind}-{k + 1}" for k in range(n)] for m, kind in {"rewarded": "specialist", "bone": "backbone"}.items()
    }
    return {
        "sft": {"policies": [], "preferences": [[1 / n] * n], "coefficients": [[]]},
        "rewarded": {
            "policies": slots["rewarded"],
            "preferences": given["rewarded"].tolist(),
            "coefficients": given["rewarded"].tolist(),
        },
        "bone": {
            "policies": slots["bone"],
            "preferences": given["bone"].tolist(),
            "coefficients": coefficients(circulant(n, 0.7), given["bone"]).tolist(),
        },
        "oracle": {
            "policies": [f"oracle-{k + 1}" for k in range(len(given["oracle"]))],
            "preferences": given["oracle"].tolist(),
            "coefficients": np.eye(len(given["oracle"])).tolist(),
        },
    }


def write_samples(folder: Path, n: int = 2, prompts: int = 64) -> dict[str, Path]:
    """Write every method's samples.parquet; return {method: path}."""
    paths = {}
    for method, preferences in grids(n).items():
        paths[method] = folder / method / "samples.parquet"
        paths[method].parent.mkdir(parents=True)
        rows_of(method, n, prompts, preferences).to_parquet(paths[method])
    return paths


def training_rows(n: int, steps: int = 30) -> dict[str, list[dict]]:
    """Make steps.jsonl of each policy of Rewarded Soup, Bone Soup and one oracle."""
    rng = np.random.default_rng(5)
    slots = [f"{kind}-{k + 1}" for kind in ("specialist", "backbone") for k in range(n)] + ["oracle-3"]
    return {
        slot: [
            {
                f"reward/{name}": float((i % 2 * 2 - 1) * (1 - np.exp(-s / 8)) + rng.normal(0, 0.1))
                for i, name in enumerate(OBJECTIVES[n], k)
            }
            | {
                "step": s,
                "kl": float(3 * (1 - np.exp(-s / 10)) + rng.normal(0, 0.1)),
                "entropy": 2.0 - s / 50,
                "length": 8.0 + s / 10,
            }
            for s in range(1, steps + 1)
        ]
        for k, slot in enumerate(slots)
    }


@pytest.fixture
def samples(tmp_path: Path) -> dict[str, Path]:
    return write_samples(tmp_path / "fronts")


@pytest.fixture(scope="session")
def make_samples():
    return write_samples


@pytest.fixture(scope="session")
def make_coefficients():
    return coefficients_of


@pytest.fixture(scope="session")
def make_training():
    return training_rows
