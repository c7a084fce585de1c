"""The table of a profile over several training seeds: every seed re-makes data, SFT, rewards, policies and fronts.

    python bench/seeds.py embedded --seeds 0 1 2 3 4 --jobs 1

Each seed runs `dvc repro report` in a clone of HEAD under var/seeds/. At the same commit a finished seed is not run
again and an interrupted one resumes. Prints the mean over seeds with its t interval, and each seed's paired
difference to Rewarded Soup: prompts are only part of the noise, seeds are the larger part.
"""

import argparse
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from rich.console import Console
from scipy import stats

from bonesoup import profiles
from bonesoup.evaluation.tables import label, name
from bonesoup.files import read_json, write_json
from bonesoup.pipeline import environment

RESULTS = Path("var/seeds")
SHOWN = ["hypervolume@", "inner_product", "inner_product_interior", "inner_product_vertex", "controllability", "kl"]


def make_clone(profile: str, seed: int, data: str | None) -> Path:
    """A clone of HEAD, named after it, whose params.yaml holds the profile with this seed."""
    head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
    clone = (RESULTS / f"{profile}-{seed}-{head.stdout.strip()}").absolute()
    if not clone.is_dir():
        subprocess.run(["git", "clone", "--quiet", ".", str(clone)], check=True)
    document = profiles.compose(profile, data)
    document["seed"] = seed
    with open(clone / "params.yaml", "w") as out:
        profiles.yaml.dump(document, out)
    return clone


def run_seed(clone: Path) -> dict:
    """report.json of one seed; run if it is not there yet."""
    result = clone.with_suffix(".json")
    if not result.is_file():
        # The clone's own code, not that of the installed checkout.
        path = {"PYTHONPATH": str(clone / "src")}
        with open(clone.with_suffix(".log"), "w") as log:
            command = [sys.executable, "-m", "dvc", "repro", "report"]
            done = subprocess.run(command, cwd=clone, env=environment() | path, stdout=log, stderr=log, check=False)
        if done.returncode:
            raise SystemExit(f"{clone.name} failed: see {log.name}")
        commit = clone.name.rpartition("-")[2]
        write_json(result, read_json(clone / "out/metrics/report.json") | {"commit": commit})
    return read_json(result)


def interval(values: list[float], form: str) -> str:
    """Mean over seeds, with half its 95% t interval; `form` is how to write a number."""
    if len(values) < 2:
        return form.format(values[0])
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return f"{form.format(np.mean(values))} ± {half:.3f}"


def markdown(reports: list[dict]) -> str:
    """One table per grid and unit: methods over seeds, then differences and ratios to Rewarded Soup per seed."""
    commits = ", ".join(sorted({report["commit"] for report in reports}))
    parts = [f"{len(reports)} seeds, each {reports[0]['prompts']} test prompts; measured at {commits}."]
    for key, grid in reports[0]["grids"].items():
        for unit in ("gold", "reward"):
            if unit in grid:
                parts += [f"\n**{key.replace('_', ' ')}, {'gold score' if unit == 'gold' else 'learned reward'}**\n"]
                parts += _table([report["grids"][key][unit] for report in reports])
    return "\n".join(parts)


def _table(seeds: list[dict]) -> list[str]:
    metrics = [m for m in seeds[0]["methods"]["rewarded"] if m.startswith(SHOWN[0]) or m in SHOWN]
    lines = ["| | " + " | ".join(label(metric) for metric in metrics) + " |", "|---" * (len(metrics) + 1) + "|"]

    def row(title: str, cell) -> str:
        return f"| {title} | " + " | ".join(cell(metric) for metric in metrics) + " |"

    for method in seeds[0]["methods"]:
        lines.append(
            row(name(method), lambda m, k=method: interval([s["methods"][k][m]["value"] for s in seeds], "{:.3f}"))
        )
    for method in (m for m in seeds[0]["difference_to_rewarded"] if m != "sft"):

        def gap(metric: str, method: str = method) -> str:
            ratio = metric.startswith("hypervolume")
            kind, form = ("ratio_to_rewarded", "×{:.3f}") if ratio else ("difference_to_rewarded", "{:+.3f}")
            values = [s[kind][method][metric]["value"] for s in seeds]
            return f"{interval(values, form)}<br>{' '.join(form.format(value) for value in values)}"

        lines.append(row(f"{name(method)} against Rewarded Soup", gap))
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("profile")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--jobs", type=int, default=1, help="seeds side by side; one thread each")
    parser.add_argument("--data", help="file to read instead of the profile's own")
    arguments = parser.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    data = os.path.abspath(arguments.data) if arguments.data else None
    clones = [make_clone(arguments.profile, seed, data) for seed in arguments.seeds]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        reports = list(pool.map(run_seed, clones))
    Console(soft_wrap=True, highlight=False).print(markdown(reports), markup=False)


if __name__ == "__main__":
    main()
