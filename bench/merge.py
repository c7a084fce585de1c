"""Measure a merge against a copy of the same bytes and against other tools: whole processes, interleaved.

    python bench/merge.py                     three rounds, five minutes
    python bench/merge.py --rounds 1 --work DIR

Makes three Llama-shaped checkpoints of half a billion parameters in bfloat16 and an environment with mergekit, kept
in the work folder for the next time. Every side reads three models, writes the merge of them in bfloat16 and takes
the SHA-256 of what it wrote:

    bonesoup      `bonesoup merge`
    copy          reads the three, writes the first; one thread
    transformers  loads the models in float32 and sums their state dicts
    mergekit      its linear method

Exits with status 1 unless bonesoup takes at most 2 times as long as the copy, is 8 times faster than transformers and
5 times faster than mergekit, and stays below 450 MB resident. The import of torch, which a merge does not need, is
timed separately.
"""

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
import venv
from dataclasses import dataclass
from pathlib import Path

MERGEKIT = "mergekit==0.1.5"
COEFFICIENTS = {"a": 1.75, "b": -0.5, "c": -0.25}
SIDES = ("bonesoup", "copy", "transformers", "mergekit")
# Times of a merge that each side takes, at least.
LEAST = {"copy": 0.5, "transformers": 8.0, "mergekit": 5.0}
MEGABYTES = 450

MAKE = """
import sys, torch
from transformers import LlamaConfig, LlamaForCausalLM
config = LlamaConfig(hidden_size=1024, intermediate_size=2816, num_hidden_layers=36, num_attention_heads=16,
                     vocab_size=32000, tie_word_embeddings=True)
torch.set_default_dtype(torch.bfloat16)
for seed, name in enumerate("abc"):
    torch.manual_seed(seed)
    LlamaForCausalLM(config).save_pretrained(f"{sys.argv[1]}/{name}")
"""

COPY = """
import hashlib, sys
from pathlib import Path
first, *others, out = map(Path, sys.argv[1:])
digest, buffer = hashlib.sha256(), memoryview(bytearray(1 << 22))
for path in others:
    with open(path / "model.safetensors", "rb", buffering=0) as file:
        while file.readinto(buffer):
            pass
out.mkdir()
with open(first / "model.safetensors", "rb", buffering=0) as file:
    with open(out / "model.safetensors", "wb", buffering=0) as written:
        while size := file.readinto(buffer):
            digest.update(buffer[:size])
            written.write(buffer[:size])
"""

TRANSFORMERS = """
import json, sys, torch
from transformers import AutoModelForCausalLM
coefficients, out = json.loads(sys.argv[1]), sys.argv[2]
total = None
for path, coefficient in coefficients.items():
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    state = {name: coefficient * weight for name, weight in model.state_dict().items()}
    total = {name: total[name] + weight for name, weight in state.items()} if total else state
model.load_state_dict(total)
model.to(torch.bfloat16).save_pretrained(out)
"""

# Elements that differ from the sum in float64, rounded once.
COMPARE = """
import json, sys, torch
from pathlib import Path
from safetensors import safe_open
coefficients, outs = json.loads(sys.argv[1]), sys.argv[2:]
inputs = {safe_open(f"{path}/model.safetensors", "pt"): c for path, c in coefficients.items()}
written = {out: {k: f for p in Path(out).glob("*.safetensors") for f in [safe_open(p, "pt")] for k in f.keys()}
           for out in outs}
different, count = dict.fromkeys(outs, 0), 0
for name in next(iter(inputs)).keys():
    expected = sum(c * file.get_tensor(name).double() for file, c in inputs.items()).bfloat16()
    count += expected.numel()
    for out in outs:
        different[out] += int((written[out][name].get_tensor(name) != expected).sum())
print(json.dumps({out: number / count for out, number in different.items()}))
"""


@dataclass(frozen=True)
class Run:
    """Record a whole process and the digest of its output: seconds, seconds of CPU, peak resident memory in MB."""

    seconds: float
    cpu: float
    megabytes: float


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--work", type=Path, default=Path.home() / ".cache/bonesoup/bench-merge")
    options = arguments.parse_args()
    work = options.work.absolute()
    prepare(work)
    commands = sides(work)
    shape = ", ".join(f"{name} {value}" for name, value in COEFFICIENTS.items())
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.2f} at the start; 3 models of 495M parameters ({shape})")
    runs: dict[str, list[Run]] = {name: [] for name in SIDES}
    imports = []
    # The first round is not counted: it warms the caches of the disk.
    for number in range(options.rounds + 1):
        for name in SIDES:
            run = measured(commands[name], work / "out" / name)
            if number:
                runs[name].append(run)
        imports.append(measured([sys.executable, "-c", "import torch"], None).seconds)
    load = os.getloadavg()[0]
    different = compared(work)
    shutil.rmtree(work / "out")
    faults = report(runs, imports, different)
    print(f"load {load:.2f} at the end (the runs' own included)")
    if faults:
        sys.exit("missed: " + "; ".join(faults))


def prepare(work: Path) -> None:
    """Make checkpoints and mergekit's environment, where they are not there yet."""
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "models/c/model.safetensors").is_file():
        quiet([sys.executable, "-c", MAKE, str(work / "models")])
    if not (work / "mergekit/bin/mergekit-yaml").is_file():
        print("making an environment for mergekit (minutes)", flush=True)
        venv.create(work / "mergekit", with_pip=True, clear=True)
        quiet([str(work / "mergekit/bin/python"), "-m", "pip", "install", MERGEKIT])
    models = [
        {"model": str(work / "models" / name), "parameters": {"weight": value}} for name, value in COEFFICIENTS.items()
    ]
    recipe = {"merge_method": "linear", "models": models, "parameters": {"normalize": False}, "dtype": "bfloat16"}
    # JSON is YAML.
    (work / "linear.yml").write_text(json.dumps(recipe))


def quiet(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment())
    if done.returncode:
        sys.exit(f"{' '.join(command)[:200]} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def environment() -> dict[str, str]:
    return os.environ | {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "true"}


def weighted(work: Path) -> dict[str, float]:
    return {str(work / "models" / name): value for name, value in COEFFICIENTS.items()}


def sides(work: Path) -> dict[str, list[str]]:
    models = weighted(work)
    out = {name: str(work / "out" / name) for name in SIDES}
    here = str(Path(sys.executable).with_name("bonesoup"))
    merge = [here, "merge", *(f"--model={path}={value}" for path, value in models.items()), "--out", out["bonesoup"]]
    mergekit = [str(work / "mergekit/bin/mergekit-yaml"), str(work / "linear.yml"), out["mergekit"]]
    return {
        "bonesoup": merge,
        "copy": [sys.executable, "-c", COPY, *models, out["copy"]],
        "transformers": [sys.executable, "-c", TRANSFORMERS, json.dumps(models), out["transformers"]],
        "mergekit": [*mergekit, "--no-copy-tokenizer", "--quiet"],
    }


def measured(command: list[str], out: Path | None) -> Run:
    """Run a side, and take the digest of its output where it does not do so itself."""
    if out:
        out.parent.mkdir(exist_ok=True)
        shutil.rmtree(out, ignore_errors=True)
    # What the side before has left to be written is not this one's work.
    os.sync()
    started = time.monotonic()
    with open(os.devnull, "w") as null:
        child = subprocess.Popen(command, env=environment(), stdout=null, stderr=subprocess.PIPE)
        errors = child.stderr.read().decode()
        _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"{' '.join(command)[:200]} failed:\n{errors[-3000:]}")
    if out and out.name not in ("bonesoup", "copy"):
        for path in out.glob("*.safetensors"):
            with open(path, "rb") as file:
                hashlib.file_digest(file, "sha256")
    return Run(time.monotonic() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1000)


def compared(work: Path) -> dict[str, float]:
    outs = {str(work / "out" / name): name for name in SIDES if name != "copy"}
    differences = json.loads(quiet([sys.executable, "-c", COMPARE, json.dumps(weighted(work)), *outs]))
    return {outs[out]: share for out, share in differences.items()}


def report(runs: dict[str, list[Run]], imports: list[float], different: dict[str, float]) -> list[str]:
    """Print the table; return the bounds that were missed."""
    print(f"{'':14}{'seconds':>24}{'CPU':>7}{'MB':>7}{'to bonesoup':>24}{'at least':>10}{'differing':>11}")
    faults = []
    for name, side in runs.items():
        seconds = sorted(run.seconds for run in side)
        ratios = sorted(run.seconds / mine.seconds for run, mine in zip(side, runs["bonesoup"], strict=True))
        if name in LEAST and statistics.median(ratios) < LEAST[name]:
            faults.append(f"{name} takes {statistics.median(ratios):.2f} times as long, bound {LEAST[name]:g}")
        least = f"{LEAST[name]:g}" if name in LEAST else ""
        share = f"{different[name]:.1e}" if name in different else ""
        cpu, peak = statistics.median(run.cpu for run in side), max(run.megabytes for run in side)
        print(f"{name:14}{spread(seconds):>24}{cpu:>7.2f}{peak:>7.0f}{spread(ratios):>24}{least:>10}{share:>11}")
    peak = max(run.megabytes for run in runs["bonesoup"])
    if peak > MEGABYTES:
        faults.append(f"{peak:.0f} MB resident, bound {MEGABYTES}")
    print(f"{len(imports) - 1} rounds, median (range). CPU: seconds of the process on all cores. MB: resident at most,")
    print(f"bound {MEGABYTES} for bonesoup. differing: share of elements that are not the float64 sum, rounded once.")
    print("bonesoup uses every core, the copy one: where other work runs, their ratio suffers.")
    print(f"bonesoup merge imports no torch; that alone takes {spread(sorted(imports[1:]))} s")
    return faults


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({values[0]:.2f} to {values[-1]:.2f})"


if __name__ == "__main__":
    main()
