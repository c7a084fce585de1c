"""A study without runs: a plan in a folder of its own, and finished cells made up from given differences."""

import shutil
from pathlib import Path

import pytest

from bonesoup.study.cells import Cell

ROOT = Path(__file__).parents[2]

PLAN = """\
profile: embedded
common: {evaluation.samples: 64}
seeds: [3, 5]
settings:
  default: {}
  kl-low: {rl.kl: 0.03}
  three: {profile: embedded-3, evaluation.samples: 32}
"""


@pytest.fixture
def plan(tmp_path, monkeypatch) -> Path:
    """Write studies/small.yaml in an empty project with this project's profiles, and enter it."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "profiles", tmp_path / "profiles")
    path = tmp_path / "studies/small.yaml"
    path.parent.mkdir()
    path.write_text(PLAN)
    return path


def estimate(value: float, half: float = 0.01) -> dict[str, float]:
    return {"value": value, "low": value - half, "high": value + half}


def part(methods: dict[str, float], gap: float = 0.0) -> dict:
    """Make a unit of a grid from each method's interior inner product; the rest is 1, plus `gap` at the vertices."""

    def metrics(interior: float, other: float) -> dict:
        return {
            "hypervolume@-1": estimate(other),
            "inner_product": estimate(other),
            "inner_product_interior": estimate(interior),
            "inner_product_vertex": estimate(other + gap),
            "controllability": estimate(other),
            "sparsity": estimate(other),
            "kl": estimate(other),
            "tokens": estimate(other),
        }

    base = methods["rewarded"]
    others = {method: value for method, value in methods.items() if method != "rewarded"}
    return {
        "methods": {method: metrics(value, 1.0) for method, value in methods.items()},
        "difference_to_rewarded": {method: metrics(value - base, 0.0) for method, value in others.items()},
        "ratio_to_rewarded": {method: metrics(1.0, 1.25) for method in others},
    }


def report(bone: float, gold: float, oracle: float, predicted: float | None) -> dict:
    """Make a report.json with Rewarded Soup at .5 inside, and Bone Soup that much better, learned and gold.

    predicted: gain that the diagnosis predicted in learned reward, with an interval half as wide as .04.
    """
    whole = {"sft": 0.0, "rewarded": 0.5}
    diagnosis = None
    if predicted is not None:
        verdict = "win" if predicted > 0.02 else "lose" if predicted < -0.02 else "tie"
        told = {"gain": predicted, "verdict": verdict, "grid": {"value": 0.0}, "vertices": {"value": -predicted - 0.1}}
        told["extrapolating"] = {"interior": 0.0, "grid": 0.05, "vertices": 0.1}
        diagnosis = {
            "unit": "reward",
            "prediction": {"reward": told},
            "soups": [{"method": "bone", "reward": told}],
        }
    return {
        "finding": "made up",
        "diagnosis": diagnosis,
        "objectives": ["helpful", "harmless"],
        "references": [-1.0, -2.0],
        "interior": 0.2,
        "confidence": 0.95,
        "bootstrap": 100,
        "prompts": 64,
        "costs": {"bone": {"policies": 2, "updates": 120, "scored": 15360, "passes": 1, "held": 2}},
        "grids": {
            "full_grid": {
                "points": 11,
                "gold": part(whole | {"bone": 0.5 + gold}, gap=-0.1),
                "reward": part(whole | {"bone": 0.5 + bone}),
            },
            "oracle_grid": {
                "points": 5,
                "gold": part(whole | {"bone": 0.5 + gold, "oracle": 0.5 + oracle}),
                "reward": part(whole | {"bone": 0.5 + bone, "oracle": 0.5 + oracle}),
            },
        },
    }


def fronts(gold: float) -> dict:
    """Make a fronts.json: two preferences, Bone Soup that much better in both objectives."""

    def front(*points: list[float]) -> list[dict]:
        return [{"mean": point, "low": point, "high": point, "floor": point} for point in points]

    ends = front([0.0, 1.0], [1.0, 0.0])
    better = front([gold, 1.0 + gold], [1.0 + gold, gold])
    return {"unit": "gold", "methods": {"sft": front([0.0, 0.0]), "rewarded": ends, "bone": better}}


@pytest.fixture
def made_report():
    return report


@pytest.fixture
def made_fronts():
    return fronts


@pytest.fixture
def cell(plan):
    """Return cell(setting, seed, bone, gold, oracle, predicted): write that result of the study `small`."""
    from bonesoup.study import results

    def write(setting: str, seed: int, bone: float, gold: float, oracle: float = 0.2, predicted=None) -> None:
        made = Cell(setting, seed, "embedded", {"evaluation.samples": 64})
        stages = {
            "policy@specialists": {"seconds": 2.5, "peak_mb": 300},
            "policy@backbones": {"seconds": 3.5 + seed, "cpu": 3.0, "peak_mb": 400},
            "front@bone": {"seconds": 9.5, "peak_mb": 350},
        }
        made_up = report(bone, gold, oracle, predicted)
        results.write("small", made, made_up, fronts(gold), "0123456789abcdef", stages, 12.4)

    return write
