"""Time and score a reward head on the frozen base against a full reward model of the same base, on the same pairs.

    bonesoup profile smollm2-hh --data harmless-base.jsonl.gz
    bonesoup run sft
    python bench/reward_head.py harmless

Runs in a project whose stages up to `sft` are done. Both learn from the same train pairs, and both are scored on pairs
of the test split. The head's time includes the features of all its rows, also those of the validation rows that choose
its layer; the full model makes one pass over the pairs. Bounds, or exit status 1: the head at least 5 times faster,
and its accuracy no lower by the interval of the paired difference.
"""

import argparse
import os
import sys
import tempfile
import time
import warnings
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import transformers

from bonesoup.files import write_json
from bonesoup.paths import SFT
from bonesoup.rewards.fit_head import fit
from bonesoup.rewards.score import load_reward
from bonesoup.rewards.train import train_reward
from bonesoup.settings import params, schema
from bonesoup.stages.reward import read

REACH = 5.0


def head(rows: dict[str, list[dict]], folder: Path, device: str) -> float:
    """Fit a head and write it to `folder`; return the seconds."""
    started = time.perf_counter()
    fitted = fit(SFT, rows["train"], rows["validation"], folder / "features", device, "head")
    taken = time.perf_counter() - started
    facts = {"objective": "head", "kind": "head", "model": str(SFT), "head": asdict(fitted), "judge": False}
    write_json(folder / "reward.json", facts)
    print(f"head: layer {fitted.layer}, penalty {fitted.penalty:g}", flush=True)
    return taken


def full(rows: dict[str, list[dict]], folder: Path, device: str, batch: int, learning_rate: float) -> float:
    """Train a full reward model, one pass over the train pairs, into `folder`; return the seconds."""
    steps = -(-len(rows["train"]) // batch)
    reward = schema.PairReward(
        kind="pairs", source="", steps=steps, batch=batch, learning_rate=learning_rate, lora=None
    )
    started = time.perf_counter()
    spec = train_reward("full", SFT, rows["train"], reward, 0, folder / "model", folder / "scratch", device)
    taken = time.perf_counter() - started
    write_json(folder / "reward.json", {"objective": "full", "kind": "pairs", **spec})
    return taken


def right(folder: Path, rows: list[dict], device: str) -> np.ndarray:
    """Return whether a reward scores the chosen response higher [pair]."""
    reward, prompts = load_reward(folder, device), [row["prompt"] for row in rows]
    better = reward.score(prompts, [row["chosen"] for row in rows])
    return better > reward.score(prompts, [row["rejected"] for row in rows])


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """Return the mean of values [pair] with its 95% interval, by a bootstrap over pairs."""
    picked = np.random.default_rng(0).integers(len(values), size=(2000, len(values)))
    low, high = np.quantile(values[picked].mean(1), [0.025, 0.975])
    return float(values.mean()), float(low), float(high)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("objective")
    arguments.add_argument(
        "--pairs", type=int, default=240, help="train pairs, and test pairs; a quarter for validation"
    )
    arguments.add_argument("--longest", type=int, default=400, help="characters of a pair")
    arguments.add_argument("--batch", type=int, default=8)
    arguments.add_argument("--learning-rate", type=float, default=5e-5)
    chosen = arguments.parse_args()
    transformers.utils.logging.disable_progress_bar()
    warnings.filterwarnings("ignore")
    settings = params.load()
    torch.set_num_threads(settings.threads)
    most = {"train": chosen.pairs, "validation": chosen.pairs // 4, "test": chosen.pairs}
    reward = settings.rewards[chosen.objective]
    rows = {
        split: [row for row in read(reward, split) if length(row) <= chosen.longest][:count]
        for split, count in most.items()
    }
    counts = ", ".join(f"{len(part)} {split}" for split, part in rows.items())
    print(f"{settings.threads} thread(s), load {os.getloadavg()[0]:.1f}; pairs: {counts}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        folders = {name: Path(folder) / name for name in ("head", "full")}
        for path in folders.values():
            path.mkdir()
        seconds = {
            "head": head(rows, folders["head"], settings.device),
            "full": full(rows, folders["full"], settings.device, chosen.batch, chosen.learning_rate),
        }
        hits = {name: right(path, rows["test"], settings.device).astype(float) for name, path in folders.items()}
    for name, taken in seconds.items():
        accuracy, low, high = interval(hits[name])
        print(f"{name}: {taken:.0f} s, held-out accuracy {accuracy:.3f} [{low:.3f}, {high:.3f}]")
    faster = seconds["full"] / seconds["head"]
    difference, low, high = interval(hits["head"] - hits["full"])
    print(f"the head is {faster:.1f} times faster (reach at least {REACH:g})")
    print(f"accuracy, head - full: {difference:+.3f} [{low:+.3f}, {high:+.3f}] (reach: not certainly lower)")
    sys.exit(faster < REACH or high < 0)


def length(row: dict) -> int:
    return len(row["prompt"][-1]["content"]) + max(len(row["chosen"]), len(row["rejected"]))


if __name__ == "__main__":
    main()
