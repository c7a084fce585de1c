"""One policy trained by two processes (gloo, on the CPU) through `accelerate launch`, as on several GPUs."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from pinned import default
from projects import alive, wait_for
from safetensors.torch import load_file

from bonesoup.files import read_jsonl, write_json
from bonesoup.paths import NORMALISER, POLICIES, ROWS, SCRATCH
from bonesoup.settings import params
from bonesoup.settings.profiles import yaml
from bonesoup.stages import policy
from bonesoup.training.task import Collapse

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
CPU_TWO = ROOT / "accelerate/cpu-two.yaml"
# Runs in each process: one step on completions that are the same however rows are spread over processes.
GRADIENT = """
import json, sys, torch
from pathlib import Path
sys.path.insert(0, {tests!r})
from accelerate import PartialState
from transformers import TrainerCallback
torch.set_num_threads(1)
state = PartialState(cpu=True)
from rl_tasks import ROW, make_task
from bonesoup.training import rloo

prompts = [[{{"role": "user", "content": t}}] for t in {texts!r}]
task = make_task(Path({base!r}), prompts, steps=1, prompts=4, generations=4, micro_batch=4, max_grad_norm=1e9)
trainer = rloo._trainer(task, ROW, Path({out!r}) / f"scratch-{{state.process_index}}")
# A fresh adapter's B is zero, and so would be the gradient of its A.
torch.manual_seed(5)
for name, value in trainer.model.named_parameters():
    if "lora_B" in name:
        torch.nn.init.normal_(value, std=0.1)


def fixed(prompt_ids, images, fields):
    first = state.process_index * len(prompt_ids)
    rows = range(first, first + len(prompt_ids))
    words = len(trainer.processing_class)
    # Words of the vocabulary, not its five marks, in unequal lengths.
    return [[5 + (7 * row + 3 * k) % (words - 5) for k in range(2 + row % 5)] for row in rows]


trainer._generate_single_turn = fixed
kept = {{}}


class Keep(TrainerCallback):
    def on_pre_optimizer_step(self, args, state, control, model=None, **_):
        for name, value in model.named_parameters():
            if value.grad is not None:
                kept[name.removeprefix("module.")] = value.grad.clone()


trainer.add_callback(Keep())
trainer.train()
torch.save(kept, Path({out!r}) / f"gradient-{{state.num_processes}}-{{state.process_index}}.pt")
"""


def run(*command, cwd=None) -> str:
    variables = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_on_the_same_rollouts_the_gradient_is_that_of_one_process(tiny_policy, prompts, tmp_path):
    texts = [prompt[0]["content"] for prompt in prompts]
    script = tmp_path / "gradient.py"
    tests = str(Path(__file__).parents[1])
    script.write_text(GRADIENT.format(tests=tests, texts=texts, base=str(tiny_policy), out=str(tmp_path)))
    run(sys.executable, script)
    run(sys.executable, "-m", "accelerate.commands.launch", "--config_file", CPU_TWO, script)
    gradient = torch.load(tmp_path / "gradient-1-0.pt")
    first, second = (torch.load(tmp_path / f"gradient-2-{k}.pt") for k in range(2))
    assert len(gradient) == len(first) > 10
    largest = max(value.abs().max() for value in gradient.values())
    assert largest > 1e-4, "a gradient of nothing equals anything"
    for name, value in gradient.items():
        torch.testing.assert_close(first[name], second[name], rtol=0, atol=0)
        torch.testing.assert_close(first[name], value, rtol=1e-4, atol=float(1e-5 * largest))


@pytest.fixture
def project(staged, monkeypatch) -> Path:
    """Make a project with two rewards that any policy can learn: fewer words, and more of them."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    write_json(NORMALISER, {"mean": [-2.0, -2.0], "std": [1.0, 1.0]})
    return staged


def settings(file: Path | None, seed: int = 0, **rl):
    raw = default()
    raw["seed"] = seed
    raw["rl"] |= {"steps": 4, "prompts": 4, "generations": 4, "micro_batch": 8, "checkpoint_every": 2} | rl
    steps = {"specialist-1": raw["rl"]["steps"]}
    write_json(
        ROWS / "pair.json",
        {"slots": {"specialist-1": [1.0, 0.0]}, "steps": steps, "starts": {}} | {"together": [], "reads": {}},
    )
    raw["rl"] |= {"lora": raw["rl"]["lora"] | {"rank": 2}, **rl}
    raw["hardware"]["accelerate"] = str(file) if file else None
    with open("params.yaml", "w") as out:
        yaml.dump(raw, out)
    return params.check(raw)


def test_the_stage_leaves_what_one_process_leaves_written_once(project):
    policy.run(settings(CPU_TWO), "pair")
    launched = POLICIES / "pair/specialist-1"
    assert [step["step"] for step in read_jsonl(launched / "steps.jsonl")] == [1, 2, 3, 4]
    assert read_jsonl(launched / "steps.jsonl")[0]["kl"] == 0
    names = {path.name for path in launched.iterdir()}
    weights = load_file(launched / "adapter_model.safetensors")
    assert all(value.abs().max() > 0 for value in weights.values())
    assert list(SCRATCH.glob("policies/*/checkpoint-*")) == []
    policy.run(settings(None), "pair")
    assert {path.name for path in launched.iterdir()} == names
    assert load_file(launched / "adapter_model.safetensors").keys() == weights.keys()


def test_what_a_process_says_when_it_fails_is_the_message(project):
    with pytest.raises(RuntimeError, match="launched failed: rl.micro_batch: 2 processes with 16 rows each .* = 16"):
        policy.run(settings(CPU_TWO, micro_batch=16), "pair")
    assert not (POLICIES / "pair").exists()


def test_a_policy_that_collapses_in_its_processes_is_named_as_such(project):
    # More than any vocabulary has.
    limits = {"kl": 100, "entropy": 100}
    with pytest.raises(Collapse, match="^specialist-1 collapsed at step 1: "):
        policy.run(settings(CPU_TWO, limits=limits), "pair")


def test_settings_of_accelerate_that_are_not_there_are_named(project):
    with pytest.raises((ValueError, FileNotFoundError), match="nowhere.yaml"):
        policy.run(settings(Path("nowhere.yaml")), "pair")


RUN = "from bonesoup.settings import params; from bonesoup.stages import policy; policy.run(params.load(), 'pair')"


def test_killed_and_run_again_it_ends_as_if_it_had_not_been(project):
    settings(CPU_TWO, steps=8)
    adapter = POLICIES / "pair/specialist-1/adapter_model.safetensors"
    run(sys.executable, "-c", RUN)
    expected = adapter.read_bytes()
    shutil.rmtree(SCRATCH)
    victim = subprocess.Popen([sys.executable, "-c", RUN])
    wait_for(lambda: list(SCRATCH.glob("policies/*/checkpoint-*/complete.json")), victim)
    family = psutil.Process(victim.pid).children(recursive=True)
    assert len(family) >= 3, "a launcher and two processes"
    os.kill(victim.pid, signal.SIGKILL)
    victim.wait()
    psutil.wait_procs(family, timeout=10)
    assert not alive(family), "a process outlived the one that launched it"
    assert not list(SCRATCH.glob("policies/*/adapter"))
    assert "specialist-1: resuming at step" in run(sys.executable, "-c", RUN)
    assert adapter.read_bytes() == expected


def test_trained_metrics_lie_within_the_spread_of_seeds(project):
    """Each process rolls out with a seed of its own, so the run is another draw, not the same numbers."""

    def learned(file, seed: int) -> float:
        policy.run(settings(file, seed, steps=60, checkpoint_every=60, learning_rate=0.01, kl=0.02), "pair")
        rewards = [step["reward/helpful"] for step in read_jsonl(POLICIES / "pair/specialist-1/steps.jsonl")]
        return float(np.mean(rewards[-20:]) - np.mean(rewards[:10]))

    alone = [learned(None, seed) for seed in range(5)]
    together = learned(CPU_TWO, 5)
    spread = np.std(alone, ddof=1)
    assert np.mean(alone) > 4 * spread / 5**0.5, "one process has to learn for the comparison to mean anything"
    # A further draw from the same distribution: t(4) at 99% times the spread of a draw and of the mean of five.
    assert abs(together - np.mean(alone)) < 4.6 * spread * (1 + 1 / 5) ** 0.5
