"""One request and one sweep at the size of a small chat model, against Transformers and the authors' way.

    python bench/chat.py            both
    python bench/chat.py --profile  where the sweep spends its time, at three of its preferences

An untrained Llama of SmolLM2-135M's shape in bfloat16 with two policies of rank 8 on every linear layer, on one thread;
only time is measured. Bounds, or exit status 1:

    request   40 tokens at batch 1, mixed from two policies: 1.3 times Transformers' generate of the merged model
    sweep     11 preferences x 64 prompts x 40 tokens: 20 times faster than the authors' way, which loads both
              policies as whole models and merges them for every preference, then answers one prompt at a time; its
              time is that of one merge and three answers, multiplied up

Next to the request stands the floor: the time in which this process reads all weights once per token.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

import numpy as np
import torch
import transformers
from shares import shares
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from bonesoup.chat import words_tokenizer
from bonesoup.generation.batch import Request, RunningBatch
from bonesoup.generation.soup import Policy, Soup, SoupModel, merge_adapters
from bonesoup.generation.sweep import sweep
from bonesoup.method.preferences import lattice
from bonesoup.weights.adapter_files import save
from bonesoup.weights.adapters import Adapter
from bonesoup.weights.fold import fold

WORDS, PROMPT, NEW, TEMPERATURE = 49_152, 32, 40, 0.7
PROMPTS, GRID, ROWS = 64, lattice(2, 10), 192
SAMPLED = {"do_sample": True, "temperature": TEMPERATURE, "top_k": 0, "max_new_tokens": NEW, "min_new_tokens": NEW}


def make(folder: Path) -> Soup:
    """Write base, policies and tokenizer."""
    tokenizer = words_tokenizer([" ".join(f"w{i}" for i in range(WORDS - 5))])
    config = LlamaConfig(
        vocab_size=WORDS,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )
    torch.manual_seed(0)
    base = LlamaForCausalLM(config).to(torch.bfloat16)
    base.save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    policies = []
    for seed, row in enumerate(((0.7, 0.3), (0.3, 0.7))):
        generator = torch.Generator().manual_seed(seed)
        tensors = {}
        for name, module in base.named_modules():
            if isinstance(module, torch.nn.Linear) and name != "lm_head":
                a = torch.randn(8, module.in_features, generator=generator) * module.in_features**-0.5
                tensors[name] = (a, torch.randn(module.out_features, 8, generator=generator) * 0.01)
        path = folder / f"backbone-{seed + 1}"
        adapter = Adapter({"task_type": "CAUSAL_LM"}, tensors, dict.fromkeys(tensors, 2.0))
        save(adapter, path, str(folder / "base"))
        fold(folder / "base", adapter, folder / f"dense-{seed + 1}")
        policies.append(Policy(path.name, path, row))
    return Soup("bone", folder / "base", ("helpful", "harmless"), "solve", tuple(policies), ())


def timed(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def request(live: SoupModel, merged: LlamaForCausalLM, rounds: int) -> float:
    """Print the request's times; return the median ratio."""
    ids = np.random.default_rng(0).integers(10, WORDS, PROMPT).tolist()
    coefficients = live.coefficients([0.4, 0.6])

    def mixed() -> None:
        batch = RunningBatch(live)
        batch.join([Request(0, ids, coefficients, 0, TEMPERATURE, 1.0, NEW, ignore_eos=True)])
        while len(batch):
            batch.step()

    def plain() -> None:
        merged.generate(torch.tensor([ids]), **SAMPLED)

    def read() -> None:
        for parameter in merged.parameters():
            parameter.view(torch.float32).sum()

    seconds = {"mixed": [], "generate": [], "read": []}
    for _ in range(rounds + 1):
        seconds["mixed"].append(timed(mixed))
        seconds["generate"].append(timed(plain))
        seconds["read"].append(NEW * timed(read))
    # The first round only warmed up.
    medians = {name: 1e3 * statistics.median(values[1:]) / NEW for name, values in seconds.items()}
    ratios = sorted(a / b for a, b in zip(seconds["mixed"][1:], seconds["generate"][1:], strict=True))
    print(
        f"request: {medians['mixed']:.0f} ms a token, generate {medians['generate']:.0f}, "
        f"reading the weights {medians['read']:.0f}; over generate "
        f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})   bound 1.3"
    )
    return statistics.median(ratios)


def conversations() -> list[list[dict[str, str]]]:
    words = np.random.default_rng(1).integers(10, WORDS - 10, (PROMPTS, PROMPT - 3))
    return [[{"role": "user", "content": " ".join(f"w{i}" for i in row)}] for row in words]


def sweeps(live: SoupModel, folder: Path) -> float:
    """Print the sweep's times; return how many times faster it is."""
    prompts = conversations()
    grid = np.array([live.coefficients(mu) for mu in GRID])
    seconds = timed(lambda: list(sweep(live, grid, prompts, list(range(PROMPTS)), TEMPERATURE, NEW, ROWS)))

    models = {}

    def merge() -> None:
        first, second = (AutoModelForCausalLM.from_pretrained(folder / f"dense-{k}") for k in (1, 2))
        state = second.state_dict()
        with torch.no_grad():
            for name, weight in first.named_parameters():
                weight.mul_(0.5).add_(state[name], alpha=0.5)
        models["merged"] = first.eval()

    ids = [
        live.tokenizer.apply_chat_template(prompt, add_generation_prompt=True)["input_ids"] for prompt in prompts[:3]
    ]
    once = timed(merge)
    each = timed(lambda: [models["merged"].generate(torch.tensor([row]), **SAMPLED) for row in ids]) / len(ids)
    published = len(GRID) * (once + PROMPTS * each)
    tokens = len(GRID) * PROMPTS * NEW
    print(
        f"sweep: {seconds:.0f} s, {tokens / seconds:.0f} tokens/s; the authors' way {published:.0f} s "
        f"({once:.1f} s a merge, {each:.2f} s an answer); {published / seconds:.1f} times faster   bound 20"
    )
    return published / seconds


def profile_sweep(live: SoupModel) -> None:
    """Print where the time of a part of the sweep goes."""
    prompts, points = conversations(), GRID[: ROWS // PROMPTS]
    grid = np.array([live.coefficients(mu) for mu in points])
    arguments = (live, grid, prompts, list(range(PROMPTS)), TEMPERATURE, NEW, ROWS)
    print(f"sweep, {ROWS} rows of {NEW} tokens: {shares(lambda: list(sweep(*arguments)))}")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--only", choices=["request", "sweep"])
    arguments.add_argument("--profile", action="store_true")
    options = arguments.parse_args()
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    warnings.filterwarnings("ignore")
    print(f"1 thread, load {os.getloadavg()[0]:.1f} at the start, torch {torch.__version__}", flush=True)
    missed = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recipe = make(folder)
        live = SoupModel.load(recipe)
        if options.profile:
            return profile_sweep(live)
        if options.only != "sweep":
            fold(recipe.base, merge_adapters(recipe, [0.4, 0.6])[0], folder / "merged")
            merged = AutoModelForCausalLM.from_pretrained(folder / "merged").eval()
            if not (ratio := request(live, merged, options.rounds)) <= 1.3:
                missed.append(f"the request takes {ratio:.2f} times generate's time, bound 1.3")
        if options.only != "request" and not (times := sweeps(live, folder)) >= 20:
            missed.append(f"the sweep is {times:.1f} times faster, bound 20")
    print("\n" + ("\n".join(missed) if missed else "every bound is met"))
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
