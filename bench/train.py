"""Time the joint training of a group's policies against one policy after another: interleaved rounds, medians.

    python bench/train.py                 both sizes
    python bench/train.py --size smollm2 --rounds 3
    python bench/train.py --size smollm2 --profile    where a joint step spends its time

Untrained models with four policies; only time and memory are measured. Each round makes one step of all policies by the
joint trainer, and one step of each policy by TRL's RLOOTrainer as it comes, with the same settings and rewards.
Reach, or exit status 1: four policies together 4 times faster at the shape of SmolLM2-135M in bfloat16 (2 times at the
embedded default's size), in at most 1.5 times the memory of one policy alone, each measured in a process of its own.
"""

import argparse
import multiprocessing
import os
import resource
import statistics
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

import numpy as np
import torch
import transformers
from shares import shares

from bonesoup.chat import words_tokenizer
from bonesoup.rewards.brevity import brevity
from bonesoup.rewards.normalise import Normaliser
from bonesoup.rewards.score import Reward
from bonesoup.settings import schema
from bonesoup.training import rloo
from bonesoup.training.goals import Fixed
from bonesoup.training.task import Task
from bonesoup.training.trainer import JointTrainer

ROWS = {"specialist-1": [1.0, 0.0], "specialist-2": [0.0, 1.0], "backbone-1": [0.7, 0.3], "backbone-2": [0.3, 0.7]}


@dataclass(frozen=True)
class Size:
    """Describe a model, what a step of its policies is, and how much faster together they must be."""

    shape: dict[str, int]
    dtype: torch.dtype
    prompt_words: tuple[int, int]
    new_tokens: int
    rl: dict
    faster: float


RL = {"learning_rate": 1e-3, "warmup_steps": 1, "max_grad_norm": 1.0, "kl": 0.1, "checkpoint_every": 1000}
RL |= {"steps": 1000, "limits": {"kl": 1e9, "entropy": 0.0}}
SIZES = {
    "embedded": Size(
        shape={"vocab_size": 105, "hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2}
        | {"num_attention_heads": 4},
        dtype=torch.float32,
        prompt_words=(4, 12),
        new_tokens=16,
        rl=RL | {"prompts": 16, "generations": 8, "micro_batch": 128, "lora": {"rank": 8, "alpha": 16}},
        faster=2,
    ),
    "smollm2": Size(
        shape={"vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30}
        | {"num_attention_heads": 9, "num_key_value_heads": 3},
        dtype=torch.bfloat16,
        prompt_words=(30, 45),
        new_tokens=40,
        rl=RL
        | {"prompts": 4, "generations": 4, "micro_batch": 16}
        | {"lora": {"rank": 8, "alpha": 16, "targets": ["q_proj", "v_proj", "o_proj", "down_proj"]}},
        faster=4,
    ),
}


def make(size: Size, folder: Path) -> Path:
    """Save an untrained model of a size."""
    words = size.shape["vocab_size"] - 5
    tokenizer = words_tokenizer([f"w{i}" for i in range(words)])
    ends = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    torch.manual_seed(0)
    config = transformers.LlamaConfig(**size.shape, **ends, max_position_embeddings=256, tie_word_embeddings=True)
    transformers.LlamaForCausalLM(config).to(size.dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def task(size: Size, base: Path) -> Task:
    rng = np.random.default_rng(0)
    texts = [
        " ".join(f"w{i}" for i in rng.integers(0, size.shape["vocab_size"] - 5, rng.integers(*size.prompt_words)))
        for _ in range(64)
    ]
    return Task(
        base=base,
        prompts=[[{"role": "user", "content": text}] for text in texts],
        rewards=[Reward("brevity", brevity), Reward("again", brevity)],
        normaliser=Normaliser(np.array([-10.0, -10.0]), np.array([5.0, 5.0])),
        rl=schema.Rl(**size.rl),
        generation=schema.Generation(temperature=1.0, max_new_tokens=size.new_tokens),
        hardware=schema.Hardware(),
        seed=0,
        device="cpu",
    )


class Together:
    """Take steps of the joint trainer."""

    def __init__(self, shared: Task, folder: Path, rows: dict[str, list[float]] = ROWS):
        self.trainer = JointTrainer(shared, {name: (Fixed(row), folder / name) for name, row in rows.items()})
        for learner in self.trainer.learners:
            learner.resume(0)

    def step(self) -> float:
        """Return the seconds within the trainers' steps, without loading and saving."""
        started = time.perf_counter()
        self.trainer.step(range(len(self.trainer.learners)))
        return time.perf_counter() - started


class OneByOne:
    """Take steps of TRL's trainer for one policy after another, each on a base of its own as it comes."""

    def __init__(self, shared: Task, folder: Path, rows: dict[str, list[float]] = ROWS):
        self.task, self.folder, self.rows = shared, folder, rows

    def step(self) -> float:
        """Return the seconds within the trainers' steps: neither loading nor saving counts."""
        total = 0.0
        for name, row in self.rows.items():
            trainer = rloo._trainer(self.task, row, self.folder / name)
            trainer.args.max_steps, trainer.args.save_strategy = 1, "no"
            clock = Clock()
            trainer.add_callback(clock)
            trainer.train()
            total += clock.seconds
        return total


class Clock(transformers.TrainerCallback):
    """Time a step from its start, generation included, to its end."""

    def on_train_begin(self, args, state, control, **kwargs):
        self.started = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs):
        self.seconds = time.perf_counter() - self.started


def peak(kind: type, size: str, base: Path, rows: dict[str, list[float]]) -> float:
    """Measure the peak memory in GB of one step in a separate process."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_peak, (kind, size, base, rows, torch.get_num_threads()))


def _peak(kind: type, size: str, base: Path, rows: dict[str, list[float]], threads: int) -> float:
    torch.set_num_threads(threads)
    quiet()
    with tempfile.TemporaryDirectory() as folder:
        kind(task(SIZES[size], base), Path(folder), rows).step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def quiet() -> None:
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    warnings.filterwarnings("ignore")
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - until the process ends


def measure(name: str, size: Size, folder: Path, rounds: int) -> list[str]:
    """Print a size's lines; return the bounds that were missed."""
    base = make(size, folder / "base")
    shared, alone = task(size, base), dict(list(ROWS.items())[:1])
    say(f"\n{name}: {len(ROWS)} policies, {shared.rl.prompts} x {shared.rl.generations} responses a step for each")
    memory = {
        "four together": peak(Together, name, base, ROWS),
        "one alone": peak(Together, name, base, alone),
        "one by TRL": peak(OneByOne, name, base, alone),
    }
    say("  peak memory, GB: " + ", ".join(f"{what} {value:.2f}" for what, value in memory.items()))
    together, apart = Together(shared, folder / "joint"), OneByOne(shared, folder / "trl")
    together.step()
    apart.step()
    seconds = [(together.step(), apart.step()) for _ in range(rounds)]
    ratios = sorted(separate / mine for mine, separate in seconds)
    mine, separate = (statistics.median(column) for column in zip(*seconds, strict=True))
    faster, larger = statistics.median(ratios), memory["four together"] / memory["one alone"]
    say(f"  seconds a step of all policies: together {mine:.2f}, one by one by TRL {separate:.2f}")
    missed = []
    if not faster >= size.faster:
        missed.append(f"{name}: together {faster:.3g} times faster, reach {size.faster:g}")
    if not larger <= 1.5:
        missed.append(f"{name}: {larger:.3g} times the memory of one policy, reach 1.5")
    say(f"  times faster: {faster:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})   reach at least {size.faster:g}")
    say(f"  times the memory of one policy: {larger:.2f}   reach at most 1.5")
    return missed


def profile(name: str, size: Size, folder: Path) -> None:
    """Print the shares of one joint step's time that the most expensive operations of torch take."""
    together = Together(task(size, make(size, folder / "base")), folder / "joint")
    together.step()
    say(f"\n{name}, a step of all policies: {shares(together.step)}")


def say(line: str) -> None:
    print(line, file=sys.__stdout__, flush=True)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--size", choices=list(SIZES))
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--rounds", type=int, default=2)
    arguments.add_argument("--profile", action="store_true")
    chosen = arguments.parse_args()
    torch.set_num_threads(chosen.threads)
    quiet()
    say(f"{chosen.threads} thread(s), load {os.getloadavg()[0]:.1f}, torch {torch.__version__}")
    missed = []
    for name, size in SIZES.items():
        if chosen.size in (None, name):
            with tempfile.TemporaryDirectory() as folder:
                if chosen.profile:
                    profile(name, size, Path(folder))
                else:
                    missed += measure(name, size, Path(folder), chosen.rounds)
    if chosen.profile:
        return
    say("\n" + ("\n".join(missed) if missed else "every bound is met"))
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
