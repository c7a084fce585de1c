"""RLOO policies: only the adapter moves, towards the reward, and interrupted runs end like unbroken ones."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import pytest
import torch
from rl_tasks import BROKEN, ROW, judged, make_task
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from bonesoup.files import read_jsonl
from bonesoup.rewards.score import Reward
from bonesoup.training import rloo
from bonesoup.training.task import Collapse


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def unbroken(tiny_policy, prompts, tmp_path_factory) -> Path:
    torch.set_num_threads(1)
    return rloo.train_policy(make_task(tiny_policy, prompts), "unbroken", ROW, tmp_path_factory.mktemp("unbroken"))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors")


def test_every_adapter_tensor_moves_and_the_base_does_not(unbroken, tiny_policy):
    from peft import PeftModel

    base = AutoModelForCausalLM.from_pretrained(tiny_policy)
    before = {name: value.clone() for name, value in base.state_dict().items()}
    trained = PeftModel.from_pretrained(base, unbroken)
    for name, value in weights(unbroken).items():
        # PEFT starts B at zero and A at random: B must have left zero, and A must not be what a fresh one is.
        assert value.abs().max() > 0, name
    bare = {
        name.replace("base_model.model.", "").replace(".base_layer", ""): v for name, v in trained.state_dict().items()
    }
    for name, value in before.items():
        assert torch.equal(bare[name], value), name


def test_a_and_b_both_leave_their_initial_values(unbroken, tiny_policy, prompts, tmp_path):
    still = rloo.train_policy(make_task(tiny_policy, prompts, steps=1, learning_rate=1e-12), "still", ROW, tmp_path)
    start, end = weights(still), weights(unbroken)
    assert start.keys() == end.keys()
    for name in start:
        assert (start[name] - end[name]).abs().max() > 1e-4, name


def test_log_has_every_step_and_starts_at_the_sft_policy(unbroken):
    steps = [json.loads(line) for line in (unbroken / "steps.jsonl").read_text().splitlines()]
    assert [step["step"] for step in steps] == [1, 2, 3, 4, 5, 6]
    # Before the first update the policy is its own reference: exactly no divergence.
    assert steps[0]["kl"] == 0
    assert {"reward/flour", "reward/yes", "entropy", "length"} <= set(steps[0])


def test_a_judge_is_logged_and_changes_nothing_else(unbroken, tiny_policy, prompts, tmp_path):
    task = judged(make_task(tiny_policy, prompts), seen := [])
    done = rloo.train_policy(task, "judged", ROW, tmp_path)
    assert all(torch.equal(weights(done)[name], value) for name, value in weights(unbroken).items())
    log, plain = (read_jsonl(folder / "steps.jsonl") for folder in (done, unbroken))
    assert [{key: step[key] for key in plain[0]} for step in log] == plain
    means = [np.mean([response.split().count("no") for response in responses]) for _, responses in seen]
    assert [step["judge/yes"] for step in log] == pytest.approx([(mean - 0.5) / 2 for mean in means])


class Killed(Exception):
    pass


@pytest.mark.parametrize("at", [1, 3, 4, 5])
def test_resumed_run_equals_an_unbroken_one_bit_for_bit(unbroken, tiny_policy, prompts, tmp_path, monkeypatch, at):
    def dying(self, args, state, control, logs=None, **kwargs):
        original(self, args, state, control, logs=logs, **kwargs)
        if state.global_step == at:
            raise Killed

    original = rloo._StepLog.on_log
    monkeypatch.setattr(rloo._StepLog, "on_log", dying)
    with pytest.raises(Killed):
        rloo.train_policy(make_task(tiny_policy, prompts), "broken", ROW, tmp_path)
    monkeypatch.setattr(rloo._StepLog, "on_log", original)
    resumed = rloo.train_policy(make_task(tiny_policy, prompts), "resumed", ROW, tmp_path)
    for file in sorted(path.name for path in unbroken.iterdir()):
        assert (resumed / file).read_bytes() == (unbroken / file).read_bytes(), file


@pytest.mark.parametrize("at", [2, 3])
def test_a_probe_that_is_gone_on_with_equals_an_unbroken_run(unbroken, tiny_policy, prompts, tmp_path, at):
    task = make_task(tiny_policy, prompts)
    short = rloo.train_policy(task, "probe", ROW, tmp_path, until=at)
    assert (short / "steps.jsonl").read_text().count("\n") == at
    assert (unbroken / "steps.jsonl").read_text().startswith((short / "steps.jsonl").read_text())
    kept = weights(short)
    full = rloo.train_policy(task, "full", ROW, tmp_path)
    for file in sorted(path.name for path in unbroken.iterdir()):
        assert (full / file).read_bytes() == (unbroken / file).read_bytes(), file
    # Afterwards the probe is still there; and where it is not, it is trained again beside the full run.
    assert rloo.train_policy(task, "probe", ROW, tmp_path, until=at) == short
    shutil.rmtree(short)
    again = rloo.train_policy(task, "probe", ROW, tmp_path, until=at)
    assert all(torch.equal(weights(again)[name], value) for name, value in kept.items())
    assert rloo.train_policy(task, "full", ROW, tmp_path) == full


def test_a_probe_killed_before_its_adapter_was_kept_is_finished(unbroken, tiny_policy, prompts, tmp_path):
    task = make_task(tiny_policy, prompts)
    short = rloo.train_policy(task, "probe", ROW, tmp_path, until=3)
    kept = weights(short)
    shutil.rmtree(short)
    again = rloo.train_policy(task, "probe", ROW, tmp_path, until=3)
    assert again == short
    assert all(torch.equal(weights(again)[name], value) for name, value in kept.items())


@pytest.mark.parametrize("file", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"])
def test_a_poisoned_resume_file_is_not_executed(tiny_policy, prompts, tmp_path, monkeypatch, file):
    """Each is a pickle, and only the weights-only loader reads from it."""
    made = tmp_path / "made"

    class Bomb:
        def __reduce__(self):
            return Path.touch, (made,)

    def dying(self, args, state, control, logs=None, **kwargs):
        original(self, args, state, control, logs=logs, **kwargs)
        if state.global_step == 3:
            raise Killed

    original = rloo._StepLog.on_log
    monkeypatch.setattr(rloo._StepLog, "on_log", dying)
    with pytest.raises(Killed):
        rloo.train_policy(make_task(tiny_policy, prompts), "broken", ROW, tmp_path)
    monkeypatch.setattr(rloo._StepLog, "on_log", original)
    poisoned = tmp_path / "checkpoint-2" / file
    assert poisoned.is_file()
    torch.save(Bomb(), poisoned)
    if file == "training_args.bin":
        rloo.train_policy(make_task(tiny_policy, prompts), "resumed", ROW, tmp_path)
    else:
        with pytest.raises(UnpicklingError, match="Weights only load failed"):
            rloo.train_policy(make_task(tiny_policy, prompts), "resumed", ROW, tmp_path)
    assert not made.exists()
    if poisoned.exists():
        torch.load(poisoned, weights_only=False)
        assert made.exists(), "the pickle was harmless"


def test_a_torn_checkpoint_is_ignored(unbroken, tiny_policy, prompts, tmp_path):
    torn = tmp_path / "checkpoint-4"
    torn.mkdir(parents=True)
    (torn / "adapter_model.safetensors").write_bytes(b"half")
    assert rloo.last_checkpoint(tmp_path) is None
    done = rloo.train_policy(make_task(tiny_policy, prompts), "fresh", ROW, tmp_path)
    assert (done / "adapter_model.safetensors").read_bytes() == (unbroken / "adapter_model.safetensors").read_bytes()


def test_micro_batches_do_not_change_the_step(unbroken, tiny_policy, prompts, tmp_path):
    split = rloo.train_policy(make_task(tiny_policy, prompts, micro_batch=2), "split", ROW, tmp_path)
    whole, parts = weights(unbroken), weights(split)
    for name in whole:
        torch.testing.assert_close(parts[name], whole[name], rtol=1e-3, atol=1e-5)


def test_gradient_checkpointing_does_not_change_the_adapter(unbroken, tiny_policy, prompts, tmp_path):
    again = rloo.train_policy(
        make_task(tiny_policy, prompts, hardware={"gradient_checkpointing": True}), "again", ROW, tmp_path
    )
    whole, anew = weights(unbroken), weights(again)
    for name in whole:
        torch.testing.assert_close(anew[name], whole[name], rtol=1e-3, atol=1e-5)


def test_vllm_that_is_not_installed_is_said(tiny_policy, prompts, tmp_path):
    with pytest.raises(ValueError, match="hardware.vllm: vLLM is not installed"):
        rloo.train_policy(make_task(tiny_policy, prompts, hardware={"vllm": True}), "fast", ROW, tmp_path)


def test_text_scored_is_the_tokens_trained_on(tiny_policy, prompts, tmp_path):
    """The scored text, tokenised again and ended, is exactly the tokens TRL trains on."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_policy)
    seen = []
    task = make_task(tiny_policy, prompts, steps=2)
    trainer = rloo._trainer(task, ROW, tmp_path)
    score = trainer.reward_funcs[0]

    def spying(prompts, completions, completion_ids, **rest):
        seen.extend(zip([c[0]["content"] for c in completions], completion_ids, strict=True))
        return score(prompts=prompts, completions=completions, **rest)

    trainer.reward_funcs[0] = spying
    trainer.train()
    assert len(seen) == 16
    for text, ids in seen:
        ended = [tokenizer.eos_token_id] if ids[-1] == tokenizer.eos_token_id else []
        assert tokenizer(text, add_special_tokens=False)["input_ids"] + ended == ids


def test_reward_is_the_plain_weighted_sum_of_normalised_rewards(tiny_policy, prompts, tmp_path):
    """RLOO's advantage, recomputed by hand from the rewards of each response: no division by a group's spread."""
    task = make_task(tiny_policy, prompts, steps=1, kl=0.0)
    trainer = rloo._trainer(task, ROW, tmp_path)
    texts, kept = [], {}
    score = trainer.reward_funcs[1]

    def spying(prompts, completions, **rest):
        texts.extend(c[0]["content"] for c in completions)
        return score(prompts=prompts, completions=completions, **rest)

    trainer.reward_funcs[1] = spying
    inner = trainer._generate_and_score_completions

    def keep(inputs):
        kept.update(inner(inputs))
        return dict(kept)

    trainer._generate_and_score_completions = keep
    trainer.train()
    flour = (np.array([t.split().count("flour.") for t in texts]) - 0.1) / 0.5
    yes = (np.array([t.split().count("yes") for t in texts]) - 0.2) / 2.0
    total = (0.7 * flour + 0.3 * yes).reshape(2, 4)
    expected = total - (total.sum(1, keepdims=True) - total) / 3
    np.testing.assert_allclose(kept["advantages"].numpy(), expected.ravel(), atol=1e-5)


def test_kl_above_its_limit_stops_the_run(tiny_policy, prompts, tmp_path):
    limits = {"kl": 1e-6, "entropy": 0.0}
    with pytest.raises(Collapse, match=r"hot collapsed at step \d: KL to the SFT policy is .* rl.limits.kl"):
        rloo.train_policy(make_task(tiny_policy, prompts, limits=limits, learning_rate=0.1), "hot", ROW, tmp_path)


def test_entropy_below_its_limit_stops_the_run(tiny_policy, prompts, tmp_path):
    limits = {"kl": 1000, "entropy": 50.0}
    with pytest.raises(Collapse, match="token entropy is .* below rl.limits.entropy"):
        rloo.train_policy(make_task(tiny_policy, prompts, limits=limits), "cold", ROW, tmp_path)


@pytest.mark.parametrize(("broken", "message"), BROKEN)
def test_a_broken_reward_function_stops_the_run(tiny_policy, prompts, tmp_path, broken, message):
    task = make_task(tiny_policy, prompts)
    task.rewards[1] = Reward("yes", broken)
    with pytest.raises(ValueError, match=f"reward yes: {message}"):
        rloo.train_policy(task, "broken", ROW, tmp_path)


SCRIPT = """
import sys, torch
from pathlib import Path
torch.set_num_threads(1)
sys.path.insert(0, {tests!r})
from rl_tasks import BROKEN, ROW, make_task
from bonesoup.training import rloo
from bonesoup.training.task import Collapse
prompts = [[{{"role": "user", "content": t}}] for t in {texts!r}]
rloo.train_policy(make_task(Path({base!r}), prompts, steps=40, checkpoint_every=5), "victim", ROW, Path({scratch!r}))
"""


@pytest.mark.slow
def test_kill_9_and_resume_in_another_process_gives_the_same_adapter(tiny_policy, prompts, tmp_path):
    texts = [prompt[0]["content"] for prompt in prompts]

    def start(scratch: Path) -> subprocess.Popen:
        code = SCRIPT.format(
            tests=str(Path(__file__).parents[1]), texts=texts, base=str(tiny_policy), scratch=str(scratch)
        )
        return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)

    assert start(tmp_path / "whole").wait(300) == 0
    victim = start(tmp_path / "killed")
    while not list((tmp_path / "killed").glob("checkpoint-*/complete.json")):
        assert victim.poll() is None, "finished before it could be killed"
    os.kill(victim.pid, signal.SIGKILL)
    victim.wait()
    assert not (tmp_path / "killed" / "adapter").exists()
    second = start(tmp_path / "killed")
    assert second.wait(300) == 0
    assert "resuming at step" in second.stdout.read()
    for name in ["adapter_model.safetensors", "adapter_config.json", "steps.jsonl"]:
        whole, killed = (tmp_path / kind / "adapter" / name for kind in ("whole", "killed"))
        assert whole.read_bytes() == killed.read_bytes(), name


def test_too_few_prompts_for_a_step_are_refused(tiny_policy, prompts, tmp_path):
    with pytest.raises(ValueError, match=r"few: 6 training prompts cannot fill a step of rl.prompts = 8"):
        rloo.train_policy(make_task(tiny_policy, prompts, prompts=8, micro_batch=32), "few", ROW, tmp_path)


def test_tighter_limits_also_hold_for_a_policy_that_is_trained_already(tiny_policy, prompts, tmp_path):
    rloo.train_policy(make_task(tiny_policy, prompts, steps=2), "done", ROW, tmp_path)
    limits = {"kl": 1000, "entropy": 50.0}
    with pytest.raises(Collapse, match="again collapsed at step 1: token entropy"):
        rloo.train_policy(make_task(tiny_policy, prompts, steps=2, limits=limits), "again", ROW, tmp_path)
