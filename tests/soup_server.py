"""A version's files in miniature, and a real `bonesoup serve` process on them."""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from ruamel.yaml import YAML

from bonesoup.files import read_json, write_json
from bonesoup.method.basis import circulant
from bonesoup.method.preferences import lattice
from bonesoup.settings.schema import Model
from bonesoup.training.base import base_policy
from bonesoup.weights.adapter_files import save
from bonesoup.weights.adapters import Adapter

WORDS = [f"{head}{tail}" for head in ("bake", "mix", "warm", "stir", "taste") for tail in ("", "s", "ed", "ing", "er")]
ROOT = Path(__file__).parents[1]
BONESOUP = Path(sys.executable).with_name("bonesoup")


def make_version(folder: Path, objectives: list[str], tokenizer: str = "words", measured: bool = True) -> Path:
    """Write files of a steerable soup as the registry stores them: random policies on an untrained base."""
    files = folder / "artifacts"
    sizes = Model(source="scratch", tokenizer=tokenizer, vocabulary=400, hidden=32, layers=2, heads=2, context=256)
    model, words = base_policy(sizes, WORDS, seed=0)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            # Untrained, a model repeats itself; with wider weights it says different things.
            torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(files / "base")
    words.save_pretrained(files / "base")
    n = len(objectives)
    grid = lattice(n, 4).tolist()
    for method, group, rows in (
        ("bone", "backbone", circulant(n, 0.7).tolist()),
        ("rewarded", "specialist", np.eye(n).tolist()),
    ):
        policies = []
        for k, row in enumerate(rows, start=1):
            slot = f"{group}-{k}"
            _policy(model, files / slot, seed=len(group) * 10 + k)
            policies.append({"slot": slot, "path": slot, "row": row, "digest": ""})
        recipe = {"method": method, "base": "base", "objectives": objectives, "mapping": "solve"}
        name = "soup" if method == "bone" else method
        write_json(files / f"{name}.json", recipe | {"policies": policies, "preferences": grid})
    config = {
        "preferences": {"balanced": dict.fromkeys(objectives, 1 / n)},
        "default": dict.fromkeys(objectives, 1 / n),
        "fixed": False,
        "temperature": 1.0,
        "max_new_tokens": 16,
        "batch": 32,
        "device": "auto",
    }
    with open(folder / "MLmodel", "w") as out:
        YAML().dump({"flavors": {"python_function": {"config": config}}}, out)
    if measured:
        write_json(folder / "lineage/fronts.json", fronts(objectives, grid))
    return folder


def make_project(folder: Path, objectives: list[str], judged: bool = False) -> Path:
    """Write files of a run of the default with such a soup; both rewards count words, one at half the scale.

    With `judged` the rewards have judges that count words at a tenth of the scale.
    """
    out = make_version(folder / "out", objectives)
    for recipe, method in (("soup", "bone"), ("rewarded", "rewarded")):
        soup = read_json(out / f"artifacts/{recipe}.json")
        policies = [policy | {"path": f"out/artifacts/{policy['path']}"} for policy in soup["policies"]]
        write_json(out / f"soups/{method}.json", soup | {"base": "out/artifacts/base", "policies": policies})
    write_json(out / "choice.json", {"method": "bone", "prompts": 0, "candidates": []})
    scale = {"mean": [0.0] * len(objectives), "std": [1.0 + i for i in range(len(objectives))], "gold": None}
    if judged:
        scale["judge"] = {"mean": scale["mean"], "std": [10.0] * len(objectives)}
    write_json(out / "normaliser.json", scale)
    write_json(out / "choice.json", {"method": "bone"})
    for name in objectives:
        reward = {"objective": name, "kind": "function", "function": "bonesoup.rewards.brevity:brevity"}
        write_json(out / f"rewards/{name}/reward.json", reward)
        if judged:
            write_json(out / f"rewards/{name}/judge/reward.json", reward)
    tables = "src/bonesoup/data/embedded.yaml"
    (folder / tables).parent.mkdir(parents=True)
    for name in ("params.yaml", tables):
        shutil.copy(ROOT / name, folder / name)
    return folder


def _policy(model, folder: Path, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        name: (
            torch.randn(3, module.in_features, generator=generator) * 0.3,
            torch.randn(module.out_features, 3, generator=generator) * 0.3,
        )
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and name != "lm_head"
    }
    save(Adapter({"task_type": "CAUSAL_LM"}, tensors, dict.fromkeys(tensors, 1.0)), folder, "base")


def fronts(objectives: list[str], grid: list[list[float]]) -> dict:
    """Make up a measurement: a bulge above the straight line between the specialists."""

    def point(preference: list[float], bulge: float) -> dict:
        mean = [2 * weight - 1 + bulge * (1 - sum(w * w for w in preference)) for weight in preference]
        return {
            "preference": preference,
            "mean": mean,
            "low": [value - 0.1 for value in mean],
            "high": [value + 0.1 for value in mean],
            "floor": [value - 0.2 for value in mean],
        }

    methods = {
        "sft": [point([1 / len(objectives)] * len(objectives), -0.5)],
        "rewarded": [point(preference, 0.2) for preference in grid],
        "bone": [point(preference, 0.6) for preference in grid],
    }
    return {"unit": "gold", "confidence": 0.95, "prompts": 100, "objectives": objectives, "methods": methods}


@dataclass
class Running:
    """Hold a `bonesoup serve` process."""

    process: subprocess.Popen
    url: str = ""
    lines: list[str] = field(default_factory=list)

    def stop(self, number: int = signal.SIGTERM, seconds: float = 60) -> int:
        """Send a signal and wait; return the exit status."""
        self.process.send_signal(number)
        return self.process.wait(seconds)


@contextmanager
def serving(*arguments: str, cwd: Path, env: dict | None = None) -> Iterator[Running]:
    """Start `bonesoup serve ARGUMENTS --port 0` in `cwd` and wait until it says where it listens."""
    variables = os.environ | {"OMP_NUM_THREADS": "1", "DO_NOT_TRACK": "true", "COLUMNS": "500"} | (env or {})
    command = [str(BONESOUP), "serve", *map(str, arguments), "--port", "0"]
    process = subprocess.Popen(
        command, cwd=cwd, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    running = Running(process)
    ready = threading.Event()

    def read() -> None:
        for line in process.stdout:
            running.lines.append(line.rstrip())
            if address := re.search(r"mixing desk: +(http://\S+?)/$", line.rstrip()):
                running.url = address[1]
            # The last line of the greeting.
            if "a first answer:" in line:
                ready.set()
        ready.set()

    threading.Thread(target=read, daemon=True).start()
    try:
        ready.wait(120)
        assert running.url, "bonesoup serve did not start:\n" + "\n".join(running.lines)
        yield running
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
