"""Adapters that are mixed while they train: each step is that of the merged policy, split by the coefficients."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from architectures import base as architecture
from rl_tasks import make_task
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.pytorch_utils import Conv1D

from bonesoup.files import read_jsonl
from bonesoup.training.goals import EveryPreference
from bonesoup.training.joint import train_goal, train_policy
from bonesoup.training.learner import Learner
from bonesoup.training.task import Collapse
from bonesoup.training.trainer import JointTrainer, leave_one_out


@dataclass(frozen=True)
class Given(EveryPreference):
    """Preferences that do not change from step to step."""

    given: tuple = ()

    def rows(self, step, prompts):
        return [list(row) for row in self.given]


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def given(*rows) -> Given:
    return Given(0, len(rows[0]), tuple(map(tuple, rows)))


def made(task, goal, folder) -> JointTrainer:
    """A trainer whose adapters have values, different ones."""
    trainer = JointTrainer(task, {"mixed": (goal, folder)})
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for factors in trainer.stack.factors:
            for a, b in factors.values():
                a.add_(torch.randn(a.shape, generator=generator) * 0.1)
                b.copy_(torch.randn(b.shape, generator=generator) * 0.1)
    return trainer


def dense(trainer: JointTrainer, base, preference) -> AutoModelForCausalLM:
    """The merged policy: mu_j times scale * B_j A_j added to every weight."""
    model = AutoModelForCausalLM.from_pretrained(base)
    scale = trainer.stack.config.lora_alpha / trainer.stack.config.r
    with torch.no_grad():
        for name in trainer.stack.factors[0]:
            module = model.get_submodule(name)
            for weight, factors in zip(preference, trainer.stack.factors, strict=True):
                a, b = factors[name]
                delta = weight * scale * b @ a
                module.weight += delta.T if isinstance(module, Conv1D) else delta
    return model


def log_probability(model, prompt: list[int], response: list[int]) -> torch.Tensor:
    logits = model(torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
    return logits.gather(1, torch.tensor(response)[:, None]).sum()


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("micro_batch", [8, 4])
def test_the_gradient_of_one_preference_is_that_of_the_merged_policy_times_the_coefficient(
    tiny_policy, prompts, tmp_path, kind, micro_batch
):
    architecture(kind).save_pretrained(tmp_path / "base")
    AutoTokenizer.from_pretrained(tiny_policy).save_pretrained(tmp_path / "base")
    preference = [0.3, 0.7]
    task = make_task(tmp_path / "base", prompts, micro_batch=micro_batch)
    trainer = made(task, given(preference, preference), tmp_path)
    chosen = trainer.prompts_at(0)
    (responses,) = trainer.roll_out([0], chosen)
    facts = trainer.learn(0, chosen, responses)

    merged, plain = dense(trainer, task.base, preference), dense(trainer, task.base, [0.0, 0.0])
    asked = [i for i in chosen for _ in range(task.rl.generations)]
    log_probs, before = (
        torch.stack(
            [log_probability(m, trainer.prompts[i], r.token_ids) for i, r in zip(asked, responses, strict=True)]
        )
        for m in (merged, plain)
    )
    kl = (log_probs - before).detach()
    rewards = torch.tensor(trainer.scores([task.prompts[i] for i in asked], responses) @ preference) - task.rl.kl * kl
    advantage = leave_one_out(rewards.view(len(chosen), -1)).flatten()
    (-(log_probs * advantage).sum() / len(responses)).backward()
    assert facts["kl"] == pytest.approx(float(kl.mean()), rel=1e-3)
    scale, largest = trainer.stack.config.lora_alpha / trainer.stack.config.r, 0.0
    for name in trainer.stack.factors[0]:
        module = merged.get_submodule(name)
        pull = scale * (module.weight.grad.T if isinstance(module, Conv1D) else module.weight.grad)
        for coefficient, factors in zip(preference, trainer.stack.factors, strict=True):
            a, b = factors[name]
            largest = max(largest, float(b.grad.abs().max()))
            torch.testing.assert_close(b.grad, coefficient * pull @ a.detach().T, rtol=1e-3, atol=1e-5)
            torch.testing.assert_close(a.grad, coefficient * b.detach().T @ pull, rtol=1e-3, atol=1e-5)
    assert largest > 1e-3, "a gradient of nothing equals anything"


def test_a_preference_for_one_objective_trains_that_adapter_as_it_is_trained_alone(tiny_policy, prompts, tmp_path):
    task = make_task(tiny_policy, prompts, max_grad_norm=1e9)
    alone = train_policy(task, "alone", [0.0, 1.0], tmp_path / "alone")
    other, same = train_goal(task, "conditional policy", given([0.0, 1.0], [0.0, 1.0]), tmp_path / "mixed")
    assert (same / "adapter_model.safetensors").read_bytes() == (alone / "adapter_model.safetensors").read_bytes()
    # Zeros of the other adapter round the norm of the gradient differently.
    for one, step in zip(read_jsonl(same / "steps.jsonl"), read_jsonl(alone / "steps.jsonl"), strict=True):
        assert one == step | {"grad_norm": pytest.approx(step["grad_norm"])}
    assert not any(b.any() for name, b in load_file(other / "adapter_model.safetensors").items() if "lora_B" in name)


def test_a_prompt_is_answered_at_its_own_preference(tiny_policy, prompts, tmp_path):
    task = make_task(tiny_policy, prompts)
    trainer = made(task, given([0.2, 0.8], [1.0, 0.0]), tmp_path)
    chosen, n = trainer.prompts_at(0), task.rl.generations
    (both,) = trainer.roll_out([0], chosen)
    for place, preference in enumerate(([0.2, 0.8], [1.0, 0.0])):
        trainer.learners[0].goal = given(preference, preference)
        (alike,) = trainer.roll_out([0], chosen)
        part = slice(place * n, place * n + n)
        assert [r.token_ids for r in both[part]] == [r.token_ids for r in alike[part]]
        rest = slice((1 - place) * n, (1 - place) * n + n)
        assert [r.token_ids for r in both[rest]] != [r.token_ids for r in alike[rest]]


def test_preferences_are_drawn_afresh_uniformly_and_again_the_same():
    goal = EveryPreference(4, 3)
    draws = np.array([goal.rows(step, 50) for step in range(40)])
    assert np.array_equal(draws[7], goal.rows(7, 50))
    assert len(np.unique(draws.reshape(-1, 3), axis=0)) == 2000
    np.testing.assert_allclose(draws.sum(axis=2), 1)
    # Moments of the uniform distribution on the simplex.
    flat = draws.reshape(-1, 3)
    np.testing.assert_allclose(flat.mean(axis=0), 1 / 3, atol=0.02)
    np.testing.assert_allclose(
        (flat[:, :, None] * flat[:, None]).mean(axis=0), (np.ones(3) + np.eye(3)) / 12, atol=0.01
    )


class Killed(Exception):
    pass


@pytest.mark.parametrize("at", [3, 6])
def test_a_resumed_training_equals_an_unbroken_one_bit_for_bit(tiny_policy, prompts, tmp_path, monkeypatch, at):
    def dying(self, facts):
        update(self, facts)
        if self.step == at:
            raise Killed

    update = Learner.update
    task, goal = make_task(tiny_policy, prompts), EveryPreference(3, 2)
    whole = train_goal(task, "conditional policy", goal, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(Learner, "update", dying)
        with pytest.raises(Killed):
            train_goal(task, "conditional policy", goal, tmp_path / "broken")
    resumed = train_goal(task, "conditional policy", goal, tmp_path / "broken")
    for one, other in zip(whole, resumed, strict=True):
        for path in one.iterdir():
            assert path.read_bytes() == (other / path.name).read_bytes()
    assert not list((tmp_path / "broken").glob("checkpoint-*"))
    # A second call takes what is there, unless the limits have become tighter.
    assert train_goal(task, "conditional policy", goal, tmp_path / "broken") == resumed
    tight = make_task(tiny_policy, prompts, limits={"kl": 1000, "entropy": 50.0})
    with pytest.raises(Collapse, match="conditional policy collapsed"):
        train_goal(tight, "conditional policy", goal, tmp_path / "broken")


def test_a_collapse_is_named(tiny_policy, prompts, tmp_path):
    task = make_task(tiny_policy, prompts, limits={"kl": 1000, "entropy": 50.0})
    with pytest.raises(Collapse, match="conditional policy collapsed at step 1: token entropy"):
        train_goal(task, "conditional policy", EveryPreference(3, 2), tmp_path)
