"""Joint training: each policy as TRL trains it, and as it would come out alone, interrupted or not."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from architectures import base as architecture
from rl_tasks import BROKEN, judged, make_task
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

from bonesoup.files import read_json, read_jsonl
from bonesoup.generation.sample import responses_of
from bonesoup.rewards.score import Reward
from bonesoup.training import joint, rloo
from bonesoup.training.goals import Fixed
from bonesoup.training.joint import train_policies
from bonesoup.training.learner import Learner, schedule
from bonesoup.training.task import Collapse
from bonesoup.training.trainer import JointTrainer

ROWS = {"a": [0.7, 0.3], "b": [0.3, 0.7], "c": [1.0, 0.0]}


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def train(task, folder: Path, names: str = "abc", until: int | None = None) -> dict[str, Path]:
    return train_policies(task, {n: ROWS[n] for n in names}, {n: folder / n for n in names}, until)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors")


def assert_same_files(folder: Path, other: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {path.name for path in other.iterdir()}
    for path in folder.iterdir():
        assert path.read_bytes() == (other / path.name).read_bytes(), path.name


@pytest.fixture(scope="module")
def together(tiny_policy, prompts, tmp_path_factory) -> dict[str, Path]:
    torch.set_num_threads(1)
    return train(make_task(tiny_policy, prompts), tmp_path_factory.mktemp("together"))


@pytest.fixture(scope="module", params=["llama", "gpt2", "qwen2", "qwen3", "llama-bfloat16"])
def any_base(request, tiny_policy, tmp_path_factory) -> Path:
    """A base of some architecture with the tiny policy's tokenizer."""
    folder = tmp_path_factory.mktemp("base")
    name, _, dtype = request.param.partition("-")
    architecture(name).to(getattr(torch, dtype or "float32")).save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(tiny_policy)
    tokenizer.save_pretrained(folder)
    return folder


def randomised(trainer: JointTrainer) -> None:
    """Give every B values: a fresh one is zero, and so is the gradient of its A."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for factors in trainer.stack.factors:
            for _, b in factors.values():
                b.copy_(torch.randn(b.shape, generator=generator) * 0.1)


def made_up(policy: int, count: int, words: int) -> list[list[int]]:
    """Responses in unequal lengths: words of the vocabulary, not its five marks."""
    rng = np.random.default_rng(policy)
    return [rng.integers(5, words, 2 + i % 5).tolist() for i in range(count)]


def trl_gradients(task, k: int, trainer: JointTrainer, scratch: Path) -> dict[str, torch.Tensor]:
    """Gradients of TRL's RLOOTrainer for policy k on its made-up responses, by the names of an adapter's tensors."""
    theirs = rloo._trainer(task, trainer.learners[k].goal.row, scratch)
    own = {
        f"base_model.model.{module}.lora_{factor}.default.weight": value
        for module, pair in trainer.stack.factors[k].items()
        for factor, value in zip("AB", pair, strict=True)
    }
    parameters = {name: p for name, p in theirs.model.named_parameters() if p.requires_grad}
    assert parameters.keys() == own.keys()
    for name, parameter in parameters.items():
        assert parameter.dtype == own[name].dtype
        parameter.data.copy_(own[name].detach())
    words = len(theirs.processing_class)
    theirs._generate_single_turn = lambda ids, *_: made_up(k, len(ids), words)
    kept = {}

    class Keep(TrainerCallback):
        def on_pre_optimizer_step(self, *_, **__):
            kept.update({name: parameter.grad.clone() for name, parameter in parameters.items()})

    theirs.add_callback(Keep())
    theirs.train()
    return kept


@pytest.mark.parametrize("micro_batch", [8, 4])
def test_a_step_on_given_rollouts_is_that_of_trl_for_every_policy(any_base, prompts, tmp_path, micro_batch):
    exact = AutoModelForCausalLM.from_pretrained(any_base).dtype == torch.float32
    # TRL counts padding as positions; with learned ones (GPT-2) only prompts of one length compare.
    alike = [prompts[1], prompts[4], prompts[5]]
    task = make_task(any_base, alike, steps=1, micro_batch=micro_batch, max_grad_norm=1e9)
    trainer = JointTrainer(task, {n: (Fixed(row), tmp_path / n) for n, row in ROWS.items()})
    randomised(trainer)
    chosen = trainer.prompts_at(0)
    for k, learner in enumerate(trainer.learners):
        expected = trl_gradients(task, k, trainer, tmp_path / f"trl-{k}")
        ids = torch.nn.utils.rnn.pad_sequence(
            [torch.tensor([*row, trainer.tokenizer.eos_token_id]) for row in made_up(k, 8, len(trainer.tokenizer))],
            batch_first=True,
        )
        rows = [replace(r, token_ids=r.token_ids[:-1]) for r in responses_of(trainer.tokenizer, ids)]
        trainer.learn(k, chosen, rows)
        got = [factor.grad for factor in learner.parameters]
        largest = max(value.abs().max() for value in expected.values())
        assert largest > 1e-3, "a gradient of nothing equals anything"
        for name, mine in zip(sorted(expected), got, strict=True):
            if exact:
                torch.testing.assert_close(mine, expected[name], rtol=1e-3, atol=float(1e-4 * largest))
            else:
                torch.testing.assert_close(mine, expected[name], rtol=0.1, atol=float(0.05 * largest))


def test_weights_may_change_from_prompt_to_prompt(tiny_policy, prompts, tmp_path):
    """Gradients are linear in the weights: one prompt by one row and one by another add up to both rows."""

    @dataclass(frozen=True)
    class Listed(Fixed):
        def rows(self, step, prompts):
            return self.row

    task = make_task(tiny_policy, prompts, kl=0.0)
    trainer = JointTrainer(task, {"a": (Fixed(ROWS["a"]), tmp_path)})
    randomised(trainer)
    chosen = trainer.prompts_at(0)
    (responses,) = trainer.roll_out([0], chosen)

    def gradients(goal: Fixed) -> list[torch.Tensor]:
        trainer.learners[0].goal = goal
        trainer.learn(0, chosen, responses)
        found = [parameter.grad for parameter in trainer.learners[0].parameters]
        for parameter in trainer.learners[0].parameters:
            parameter.grad = None
        return found

    own, same = gradients(Fixed(ROWS["a"])), gradients(Listed([ROWS["a"]] * 2))
    one, other = (gradients(Listed(rows)) for rows in ([[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]))
    both = gradients(Fixed([1.0, 1.0]))
    assert all(torch.equal(x, y) for x, y in zip(own, same, strict=True))
    assert not all(torch.allclose(x, y) for x, y in zip(one, other, strict=True))
    for x, y, total in zip(one, other, both, strict=True):
        torch.testing.assert_close(x + y, total, rtol=1e-3, atol=1e-6)


def test_an_adapter_does_not_depend_on_its_company_bit_for_bit(together, tiny_policy, prompts, tmp_path):
    task = make_task(tiny_policy, prompts)
    for names in ("a", "b", "ca"):
        for name, adapter in train(task, tmp_path / names, names).items():
            assert_same_files(adapter, together[name])
    assert not all(torch.equal(weights(together["a"])[n], v) for n, v in weights(together["b"]).items())


def test_the_folder_is_what_trl_leaves(together, tiny_policy, prompts, tmp_path):
    theirs = rloo.train_policy(make_task(tiny_policy, prompts, steps=2), "trl", ROWS["a"], tmp_path)
    mine = together["a"]
    assert {path.name for path in mine.iterdir()} == {path.name for path in theirs.iterdir()}
    assert read_json(mine / "adapter_config.json") == read_json(theirs / "adapter_config.json")
    shapes = [{name: (v.shape, v.dtype) for name, v in weights(folder).items()} for folder in (mine, theirs)]
    assert shapes[0] == shapes[1]
    assert read_jsonl(mine / "steps.jsonl")[0].keys() == read_jsonl(theirs / "steps.jsonl")[0].keys()
    assert read_jsonl(mine / "steps.jsonl")[0]["kl"] == 0
    assert [step["step"] for step in read_jsonl(mine / "steps.jsonl")] == [1, 2, 3, 4, 5, 6]


class Killed(Exception):
    pass


@pytest.mark.parametrize("at", [(2, "a"), (3, "b"), (4, "c"), (6, "a")])
def test_a_resumed_group_equals_an_unbroken_one_bit_for_bit(together, tiny_policy, prompts, tmp_path, monkeypatch, at):
    """Killed after a policy's step, before its checkpoint: the policies before it are a step and a save ahead."""

    def dying(self, facts):
        update(self, facts)
        if (self.step, self.name) == at:
            raise Killed

    update = Learner.update
    task = make_task(tiny_policy, prompts)
    monkeypatch.setattr(Learner, "update", dying)
    with pytest.raises(Killed):
        train(task, tmp_path)
    monkeypatch.setattr(Learner, "update", update)
    for name, adapter in train(task, tmp_path).items():
        assert_same_files(adapter, together[name])
        assert not list((tmp_path / name).glob("checkpoint-*"))


@pytest.mark.parametrize("at", [2, 3])
def test_a_probe_that_is_gone_on_with_equals_an_unbroken_run(together, tiny_policy, prompts, tmp_path, at):
    task = make_task(tiny_policy, prompts)
    short = train(task, tmp_path, "ab", until=at)
    kept = {name: weights(adapter) for name, adapter in short.items()}
    assert all((adapter / "steps.jsonl").read_text().count("\n") == at for adapter in short.values())
    for name, adapter in train(task, tmp_path).items():
        assert_same_files(adapter, together[name])
    # The probe is still there; where it is not, it is trained again next to the full run.
    assert train(task, tmp_path, "ab", until=at) == short
    for path in (short["a"] / "steps.jsonl", *short["a"].glob("adapter_*"), short["a"]):
        path.rmdir() if path.is_dir() else path.unlink()
    again = train(task, tmp_path, "ab", until=at)
    assert again["b"] == short["b"]
    assert all(torch.equal(weights(again["a"])[name], value) for name, value in kept["a"].items())


def test_a_policy_that_collapses_stops_alone(together, tiny_policy, prompts, tmp_path, monkeypatch):
    def check(name, step, limits):
        if (name, step["step"]) == ("b", 3):
            raise Collapse("b collapsed at step 3")

    monkeypatch.setattr("bonesoup.training.learner.check_step", check)
    done = train(make_task(tiny_policy, prompts), tmp_path)
    assert isinstance(done["b"], Collapse)
    for name in "ac":
        assert_same_files(done[name], together[name])
    # Under wider limits it goes on from its checkpoint, alone.
    monkeypatch.undo()
    assert_same_files(train(make_task(tiny_policy, prompts), tmp_path)["b"], together["b"])


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"kl": 1e-6, "entropy": 0.0}, "KL to the SFT policy is .* rl.limits.kl"),
        ({"kl": 1000, "entropy": 50.0}, "token entropy is .* below rl.limits.entropy"),
    ],
)
def test_the_limits_stop_a_run_and_hold_for_a_trained_policy(tiny_policy, prompts, tmp_path, limits, message):
    task = make_task(tiny_policy, prompts, limits=limits, learning_rate=0.1)
    with pytest.raises(Collapse, match=rf"hot collapsed at step \d: {message}"):
        joint.train_policy(task, "hot", ROWS["a"], tmp_path / "hot")
    wide = replace(task, rl=task.rl.model_copy(update={"limits": make_task(tiny_policy, prompts).rl.limits}))
    joint.train_policy(wide, "hot", ROWS["a"], tmp_path / "hot")
    with pytest.raises(Collapse, match=message):
        joint.train_policy(task, "hot", ROWS["a"], tmp_path / "hot")


def test_a_reward_is_called_on_the_text_that_is_trained_on(tiny_policy, prompts, tmp_path):
    seen = []
    task = make_task(tiny_policy, prompts, steps=2)
    inner = task.rewards[0].scores
    task.rewards[0] = Reward("flour", lambda p, r: seen.append((p, r)) or inner(p, r))
    done = train(task, tmp_path, "ab")
    assert len(seen) == 4
    assert [p[0] for p, _ in seen] == [prompts[0], prompts[0], prompts[2], prompts[2]]
    mean = np.mean([(r.split().count("flour.") - 0.1) / 0.5 for r in seen[0][1]])
    assert read_jsonl(done["a"] / "steps.jsonl")[0]["reward/flour"] == pytest.approx(mean)


def test_a_judge_is_logged_and_changes_nothing_else(together, tiny_policy, prompts, tmp_path):
    task = judged(make_task(tiny_policy, prompts), seen := [])
    done = train(task, tmp_path)
    for name, folder in done.items():
        for path in folder.glob("adapter_*"):
            assert path.read_bytes() == (together[name] / path.name).read_bytes()
        log, plain = (read_jsonl(where / "steps.jsonl") for where in (folder, together[name]))
        assert [{key: step[key] for key in plain[0]} for step in log] == plain
        assert log[0].keys() - plain[0].keys() == {"judge/yes"}
    # Policies take turns within a step.
    means = [np.mean([response.split().count("no") for response in responses]) for _, responses in seen[::3]]
    assert [step["judge/yes"] for step in read_jsonl(done["a"] / "steps.jsonl")] == [(m - 0.5) / 2 for m in means]


@pytest.mark.parametrize(("broken", "message"), BROKEN)
def test_a_broken_reward_function_stops_the_run(tiny_policy, prompts, tmp_path, broken, message):
    task = make_task(tiny_policy, prompts)
    task.rewards[1] = Reward("yes", broken)
    with pytest.raises(ValueError, match=f"reward yes: {message}"):
        train(task, tmp_path)


@pytest.mark.parametrize("change", [{"micro_batch": 4}, {"hardware": {"gradient_checkpointing": True}}])
def test_what_only_saves_memory_changes_a_step_by_rounding_alone(tiny_policy, prompts, tmp_path, change):
    plain = train(make_task(tiny_policy, prompts, steps=2), tmp_path / "plain")
    thrifty = train(make_task(tiny_policy, prompts, steps=2, **change), tmp_path / "thrifty")
    for name in ROWS:
        for key, value in weights(plain[name]).items():
            torch.testing.assert_close(weights(thrifty[name])[key], value, rtol=1e-3, atol=1e-5)


def test_the_schedule_is_that_of_transformers():
    from transformers import get_linear_schedule_with_warmup

    for warmup in (0, 1, 4):
        optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        theirs = get_linear_schedule_with_warmup(optimiser, warmup, 9)
        for step in range(9):
            assert schedule(step, warmup, 9) == pytest.approx(theirs.get_last_lr()[0])
            optimiser.step()
            theirs.step()


def test_too_few_prompts_for_a_step_are_refused(tiny_policy, prompts, tmp_path):
    with pytest.raises(ValueError, match=r"a: 6 training prompts cannot fill a step of rl.prompts = 8"):
        train(make_task(tiny_policy, prompts, prompts=8, micro_batch=32), tmp_path)


def test_a_base_that_changes_its_logits_is_refused(tiny_policy, prompts, tmp_path):
    architecture("gemma2").save_pretrained(tmp_path / "base")
    AutoTokenizer.from_pretrained(tiny_policy).save_pretrained(tmp_path / "base")
    with pytest.raises(ValueError, match="Gemma2ForCausalLM changes its logits after the head"):
        train(make_task(tmp_path / "base", prompts), tmp_path)


SCRIPT = """
import sys, torch
from pathlib import Path
torch.set_num_threads(1)
sys.path.insert(0, {tests!r})
from rl_tasks import BROKEN, judged, make_task
from bonesoup.training.joint import train_policies
prompts = [[{{"role": "user", "content": t}}] for t in {texts!r}]
task = make_task(Path({base!r}), prompts, steps=60, checkpoint_every=5)
train_policies(task, {rows!r}, {{name: Path({scratch!r}) / name for name in {rows!r}}})
"""


@pytest.mark.slow
def test_kill_9_and_resume_in_another_process_gives_the_same_adapters(tiny_policy, prompts, tmp_path):
    texts = [prompt[0]["content"] for prompt in prompts]
    tests = str(Path(__file__).parents[1])

    def start(scratch: Path) -> subprocess.Popen:
        code = SCRIPT.format(tests=tests, texts=texts, base=str(tiny_policy), rows=ROWS, scratch=str(scratch))
        return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)

    assert start(tmp_path / "whole").wait(300) == 0
    victim = start(tmp_path / "killed")
    while not list((tmp_path / "killed/b").glob("checkpoint-*.pt")):
        assert victim.poll() is None, "finished before it could be killed"
    os.kill(victim.pid, signal.SIGKILL)
    victim.wait()
    assert not (tmp_path / "killed/a/adapter").exists()
    second = start(tmp_path / "killed")
    assert second.wait(300) == 0
    assert "resuming at step" in second.stdout.read()
    for name in ROWS:
        assert_same_files(tmp_path / "killed" / name / "adapter", tmp_path / "whole" / name / "adapter")
