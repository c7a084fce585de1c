"""Measure what a preference per row costs against merged weights: interleaved rounds, one process, medians.

    python bench/steer.py                 both sizes
    python bench/steer.py --size embedded --threads 2

Uses untrained models with two policies on every linear layer, and measures only time and whether greedy texts agree.
Exits with status 1 unless: a new preference takes at most 1 ms; a decoding step of 16 rows at 16 preferences takes at
most 1.2 times that of one merged model (2 times at the embedded default's size); 11 preferences over 1 and 4 prompts
are 3 times faster than merging and generating one after another; and for every number of prompts the engine's choice
is within a tenth of the better way. Next to the sweep it prints the time of merged weights for as many rows at once,
which is as fast as rows in one batch can be.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

import numpy as np
import torch
import transformers
from peft import PeftModel
from peft.tuners.lora import LoraLayer

from bonesoup.generation import soup, sweep
from bonesoup.generation.batch import Request, RunningBatch
from bonesoup.generation.sample import log_probabilities, sample
from bonesoup.generation.soup import Policy, Soup, SoupModel, merge_adapters
from bonesoup.method.preferences import lattice
from bonesoup.settings.schema import Model
from bonesoup.training.base import base_policy
from bonesoup.weights.adapter_files import save
from bonesoup.weights.adapters import Adapter
from bonesoup.weights.fold import fold
from bonesoup.weights.pretrained import load_model

ROWS, NEW = 16, 16
GRID = lattice(2, 10)
# Near-ties: texts may part where the two best candidates lie closer than this, in units of the logits.
TIE = 1e-3


@dataclass(frozen=True)
class Size:
    """Describe a model, its policies' rank, and what is measured on it."""

    model: Model
    words: int
    rank: int
    step_bound: float
    prompts: tuple[int, ...]
    # With many prompts the larger model takes minutes at 11 preferences: there, this many.
    many: int


SIZES = {
    "embedded": Size(
        Model(source="scratch", hidden=64, layers=2, heads=4, context=64), 100, 8, 2.0, (1, 4, 16, 32, 48, 64, 256), 11
    ),
    "138M": Size(
        Model(source="scratch", hidden=768, layers=12, heads=12, context=64), 32000, 16, 1.2, (1, 4, 16, 48), 2
    ),
}


def make(size: Size, folder: Path) -> Soup:
    words = [f"w{i}" for i in range(size.words)]
    base, tokenizer = base_policy(size.model, words, seed=0)
    # An end token of logit 0 among many that are not: rows run to their limit, on all sides alike.
    base.get_output_embeddings().weight.data[tokenizer.eos_token_id] = 0
    base.save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    generator = torch.Generator().manual_seed(0)
    policies = []
    for slot, row in (("backbone-1", (0.7, 0.3)), ("backbone-2", (0.3, 0.7))):
        tensors = {}
        for name, module in base.named_modules():
            if isinstance(module, torch.nn.Linear) and name != "lm_head":
                a = torch.randn(size.rank, module.in_features, generator=generator) * module.in_features**-0.5
                b = torch.randn(module.out_features, size.rank, generator=generator) * 0.02
                tensors[name] = (a, b)
        save(
            Adapter({"task_type": "CAUSAL_LM"}, tensors, dict.fromkeys(tensors, 2.0)),
            folder / slot,
            str(folder / "base"),
        )
        policies.append(Policy(slot, folder / slot, row))
    return Soup("bone", folder / "base", ("helpful", "harmless"), "solve", tuple(policies), ())


def interleaved(variants: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Measure seconds per round of each variant, each long enough to be measured, after one round to warm up."""
    repeats = {name: max(1, min(30, round(0.3 / run()))) for name, run in variants.items()}
    seconds = {name: [] for name in variants}
    for _ in range(rounds):
        for name, run in variants.items():
            seconds[name].append(statistics.mean(run() for _ in range(repeats[name])))
    return seconds


def timed(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def ratio(over: list[float], under: list[float]) -> tuple[float, str]:
    """Return the median of the rounds' ratios, and its range as text."""
    ratios = sorted(a / b for a, b in zip(over, under, strict=True))
    return statistics.median(ratios), f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"


def decoding(live: SoupModel, merged: SoupModel, tokens: list[list[int]], rounds: int) -> dict[str, list[float]]:
    """Measure the seconds of one decoding step of ROWS rows."""

    def steps(policy: SoupModel, coefficients: np.ndarray) -> float:
        batch = RunningBatch(policy)
        batch.join([Request(i, ids, coefficients[i], i, 0.0, 1.0, NEW + 2) for i, ids in enumerate(tokens)])
        batch.step()
        return timed(lambda: [batch.step() for _ in range(NEW - 2)]) / (NEW - 2)

    mixtures = np.array([live.coefficients([mu, 1 - mu]) for mu in np.linspace(0, 1, ROWS)])
    nothing = np.zeros((ROWS, 0))
    return interleaved({"mixed": lambda: steps(live, mixtures), "merged": lambda: steps(merged, nothing)}, rounds)


def sweeps(live: SoupModel, grid: np.ndarray, prompts: list, rounds: int) -> dict[str, list[float]]:
    """Measure the seconds of a sweep: rows mixed, one preference merged after another, and as the engine chooses."""
    coefficients = np.array([live.coefficients(mu) for mu in grid])

    def run(fold_from: float, apart_from: float | None = None, coefficients: np.ndarray = coefficients) -> float:
        chosen = soup.FOLD_FROM
        soup.FOLD_FROM, sweep.FOLD_FROM = fold_from, fold_from if apart_from is None else apart_from
        try:
            return timed(
                lambda: list(sweep.sweep(live, coefficients, prompts, list(range(len(prompts))), 1.0, NEW, 256))
            )
        finally:
            soup.FOLD_FROM = sweep.FOLD_FROM = chosen

    chosen, never = soup.FOLD_FROM, float("inf")
    alike = np.repeat(coefficients[:1], len(coefficients), axis=0)
    variants = {"mixed": lambda: run(never), "merged": lambda: run(1), "chosen": lambda: run(chosen)}
    if len(prompts) <= 4:
        # No sweep: one mixture for all rows. As fast as rows in one batch can be.
        variants["floor"] = lambda: run(1, never, alike)
    return interleaved(variants, rounds)


def evaluation(live: SoupModel, prompts: list, rounds: int) -> dict[str, list[float]]:
    """Measure the pipeline's sweep in seconds: several PEFT adapters active at once, and this engine."""
    tuned = load_model(soup.AutoModelForCausalLM, live.soup.base)
    for policy in live.policies:
        if isinstance(tuned, PeftModel):
            tuned.load_adapter(policy.path, adapter_name=policy.slot)
        else:
            tuned = PeftModel.from_pretrained(tuned, policy.path, adapter_name=policy.slot)
    tuned.base_model.set_adapter([policy.slot for policy in live.policies], inference_mode=True)
    tuned.eval()
    layers = [module for module in tuned.modules() if isinstance(module, LoraLayer)]
    seeds = list(range(len(prompts)))

    def before() -> None:
        for mu in GRID:
            for layer in layers:
                for policy, value in zip(live.policies, live.coefficients(mu).tolist(), strict=True):
                    layer.set_scale(policy.slot, value)
            responses = sample(tuned, live.tokenizer, prompts, seeds, 1.0, NEW, 256)
            log_probabilities(tuned, live.tokenizer, prompts, responses, 256)

    def after() -> None:
        coefficients = np.array([live.coefficients(mu) for mu in GRID])
        list(sweep.sweep(live, coefficients, prompts, seeds, 1.0, NEW, 256))

    return interleaved({"before": lambda: timed(before), "after": lambda: timed(after)}, rounds)


def agreement(live: SoupModel, grid: np.ndarray, tokens: list[list[int]], folder: Path) -> str:
    """Compare greedy texts of mixed rows with those of the merged weights, at every preference of the grid."""
    same = parted = unexplained = 0
    for point, mu in enumerate(grid):
        adapter, _ = merge_adapters(live.soup, mu)
        dense = folder / f"dense-{point}"
        fold(live.soup.base, adapter, dense)
        plain = SoupModel.load(Soup("one", dense, live.soup.objectives, "none", (), ()))
        for ids in tokens:
            gaps, texts = [], []
            for policy, coefficients in ((live, live.coefficients(mu)), (plain, np.zeros(0))):
                batch = RunningBatch(policy)
                generated = batch.join([Request(0, ids, coefficients, 0, 0.0, 1.0, NEW)])
                while len(batch):
                    generated += batch.step()
                texts.append([token.id for token in generated])
            if texts[0] == texts[1]:
                same += 1
                continue
            parted += 1
            at = next(i for i, pair in enumerate(zip(*texts, strict=False)) if pair[0] != pair[1])
            logits = plain.model(torch.tensor([ids + texts[1][:at]])).logits[0, -1]
            best = logits.topk(2).values
            gaps.append(float(best[0] - best[1]))
            unexplained += gaps[-1] > TIE
    text = f"{same} of {same + parted} equal, {parted} part at a near-tie"
    if unexplained:
        raise SystemExit(f"{text}; {unexplained} of them where the candidates lie more than {TIE} apart")
    return text


def measure(name: str, size: Size, folder: Path, rounds: int) -> list[str]:
    """Print the size's tables; return the bounds that were missed."""
    recipe = make(size, folder)
    live = SoupModel.load(recipe)
    parameters = sum(p.numel() for p in live.model.parameters())
    print(f"\n{name}: {parameters / 1e6:.1f} million parameters, two policies of rank {size.rank}")
    missed = []

    def bound(what: str, value: float, limit: float, text: str) -> None:
        print(f"  {what}: {text}   bound {limit:g}")
        if not value <= limit:
            missed.append(f"{name}: {what} is {value:.3g}, bound {limit:g}")

    rng = np.random.default_rng(0)
    tokens = rng.integers(10, size.words, (ROWS, 12)).tolist()
    rows = torch.tensor(rng.normal(size=(ROWS, 2)))
    switches = sorted(timed(lambda: live.mixer.set(rows)) for _ in range(200))
    bound("a new preference for 16 rows, ms", 1e3 * switches[100], 1, f"{1e3 * switches[100]:.3f}")

    dense = folder / "merged"
    fold(recipe.base, merge_adapters(recipe, [0.5, 0.5])[0], dense)
    merged = SoupModel.load(Soup("one", dense, recipe.objectives, "none", (), ()))
    seconds = decoding(live, merged, tokens, rounds)
    value, text = ratio(seconds["mixed"], seconds["merged"])
    step = 1e3 * statistics.median(seconds["merged"])
    bound(
        f"a decoding step of 16 rows at 16 preferences, times the merged one's {step:.2f} ms",
        value,
        size.step_bound,
        text,
    )

    print("  sweeps, seconds: prompts x preferences, mixed rows, merged one by one, the engine's choice")
    for count in size.prompts:
        words = rng.integers(10, size.words, (count, 10))
        prompts = [[{"role": "user", "content": " ".join(f"w{i}" for i in row)}] for row in words]
        grid = GRID if count <= 4 else lattice(2, size.many - 1)
        seconds = sweeps(live, grid, prompts, rounds)
        medians = {variant: statistics.median(times) for variant, times in seconds.items()}
        print(f"    {count:4} x {len(grid):2} " + " ".join(f"{medians[v]:9.3f}" for v in ("mixed", "merged", "chosen")))
        if count <= 4:
            value, text = ratio(seconds["mixed"], seconds["merged"])
            _, floor = ratio(seconds["floor"], seconds["merged"])
            print(f"    {count} prompts, merged weights on as many rows at once, over merged one by one: {floor}")
            bound(f"  {count} prompts, mixed over merged", value, 1 / 3, text)
        better = min(("mixed", "merged"), key=medians.get)
        value, text = ratio(seconds["chosen"], seconds[better])
        bound(f"  {count} prompts, the choice over the better ({better})", value, 1.1, text)

    if name == "embedded":
        words = rng.integers(10, size.words, (512, 10))
        prompts = [[{"role": "user", "content": " ".join(f"w{i}" for i in row)}] for row in words]
        seconds = evaluation(live, prompts, rounds)
        _, text = ratio(seconds["before"], seconds["after"])
        print(f"  the pipeline's sweep, 512 prompts x 11, PEFT's active adapters over this engine: {text}")
    few = (GRID, tokens) if size.many == len(GRID) else (lattice(2, 2), tokens[:4])
    text = agreement(live, *few, folder)
    print(f"  greedy texts of mixed rows against merged weights: {text} (closer than {TIE:g})")
    return missed


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--size", choices=list(SIZES))
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--rounds", type=int, default=3)
    chosen = arguments.parse_args()
    torch.set_num_threads(chosen.threads)
    transformers.utils.logging.disable_progress_bar()
    warnings.filterwarnings("ignore")
    print(f"{chosen.threads} thread(s), load {os.getloadavg()[0]:.1f}, torch {torch.__version__}")
    missed = []
    for name, size in SIZES.items():
        if chosen.size in (None, name):
            with tempfile.TemporaryDirectory() as folder:
                missed += measure(name, size, Path(folder), chosen.rounds)
    print("\n" + ("\n".join(missed) if missed else "every bound is met"))
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
