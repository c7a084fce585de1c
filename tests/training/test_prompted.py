"""A policy that reads the preference: what it reads, what it is measured to, and that it follows."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from architectures import base as architecture
from rl_tasks import make_task
from transformers import AutoModelForCausalLM, AutoTokenizer

from bonesoup.evaluation.front_rows import Measure, Scorer, front_rows
from bonesoup.files import read_jsonl
from bonesoup.generation.reward_context import in_context, reward_tokens, stated
from bonesoup.generation.sample import encode
from bonesoup.generation.soup import Policy, Soup, SoupModel, merge_adapters
from bonesoup.rewards.normalise import Normaliser
from bonesoup.training.goals import Stated
from bonesoup.training.learner import Learner
from bonesoup.training.prompted import extend, train_prompted
from bonesoup.training.trainer import JointTrainer

NAMES = ["flour", "yes"]


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def words(model, tokenizer, messages, answer: list[int], vocabulary: int) -> float:
    """The log-probability of an answer among the words of the SFT policy, by Transformers alone."""
    start = encode(tokenizer, [messages])["input_ids"][0].tolist()
    with torch.no_grad():
        logits = model(torch.tensor([start + answer])).logits[0, len(start) - 1 : -1, :vocabulary]
    return float(logits.log_softmax(-1).gather(1, torch.tensor(answer)[:, None]).sum())


def test_the_penalty_is_measured_to_the_sft_policy_on_the_plain_prompt(tiny_policy, prompts, tmp_path):
    task, goal = make_task(tiny_policy, prompts), Stated(3, NAMES)
    extend(tiny_policy, tmp_path / "base", NAMES, 3)
    trainer = JointTrainer(make_task(tmp_path / "base", prompts), {"reader": (goal, tmp_path)})
    chosen = trainer.prompts_at(0)
    (responses,) = trainer.roll_out([0], chosen)
    facts = trainer.learn(0, chosen, responses)
    sft, reader = (AutoModelForCausalLM.from_pretrained(path).eval() for path in (tiny_policy, tmp_path / "base"))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "base")
    contexts = stated(NAMES, goal.rows(0, len(chosen)))
    kl = []
    for k, response in enumerate(responses):
        place = k // task.rl.generations
        prompt, answer = prompts[chosen[place]], response.token_ids
        assert max(answer) < sft.config.vocab_size
        asked = in_context(prompt, contexts[place])
        kl.append(
            words(reader, tokenizer, asked, answer, sft.config.vocab_size)
            - words(sft, tokenizer, prompt, answer, sft.config.vocab_size)
        )
    assert facts["kl"] == pytest.approx(np.mean(kl), abs=1e-4)
    assert abs(facts["kl"]) > 1e-3


def test_prompts_state_the_preference_that_scores_and_in_the_control_another():
    own, control = Stated(3, NAMES), Stated(3, NAMES, others=True)
    rows = [own.rows(step, 400) for step in range(3)]
    assert rows == [control.rows(step, 400) for step in range(3)]
    assert own.contexts(1, rows[1]) == stated(NAMES, rows[1])
    told = control.contexts(1, rows[1])
    assert told == control.contexts(1, rows[1]) != own.contexts(1, rows[1])
    assert set(told) <= set(own.contexts(0, rows[0]) + own.contexts(1, rows[1]) + own.contexts(2, rows[2]))
    # Independent of what scores.
    order = {text: float(text.split("flour:")[1].split(">")[0]) for text in told}
    assert abs(np.corrcoef([order[text] for text in told], [row[0] for row in rows[1]])[0, 1]) < 0.15


def test_every_point_of_the_grid_is_told_apart():
    grid = [[k / 10, 1 - k / 10] for k in range(11)]
    texts = stated(NAMES, grid)
    assert len(set(texts)) == 11
    assert texts[0] == "<flour:-3.0><yes:+3.0>"
    assert texts[10] == "<flour:+3.0><yes:-3.0>"


def test_a_resumed_training_equals_an_unbroken_one_bit_for_bit(tiny_policy, prompts, tmp_path, monkeypatch):
    class Killed(Exception):
        pass

    def dying(self, facts):
        update(self, facts)
        if self.step == 3:
            raise Killed

    update = Learner.update
    task, goal = make_task(tiny_policy, prompts), Stated(3, NAMES)
    whole = train_prompted(task, goal, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(Learner, "update", dying)
        with pytest.raises(Killed):
            train_prompted(task, goal, tmp_path / "broken")
    resumed = train_prompted(task, goal, tmp_path / "broken")
    for name in ("adapter_model.safetensors", "steps.jsonl"):
        assert (whole / name).read_bytes() == (resumed / name).read_bytes()


@pytest.mark.slow
def test_it_follows_the_preference_and_the_control_does_not(tiny_policy, prompts, tmp_path):
    # A base whose answers depend on its prompt, as an untrained one's hardly do.
    architecture("llama").save_pretrained(tmp_path / "sft")
    AutoTokenizer.from_pretrained(tiny_policy).save_pretrained(tmp_path / "sft")
    size = {"steps": 60, "prompts": 6, "generations": 8, "micro_batch": 48, "lora": {"rank": 4, "alpha": 8}}
    task = make_task(tmp_path / "sft", prompts, learning_rate=0.02, **size)
    task = replace(task, normaliser=Normaliser(np.zeros(2), np.ones(2)))
    means = {}
    for others in (False, True):
        scratch = tmp_path / str(others)
        adapter = train_prompted(task, Stated(3, NAMES, others), scratch)
        assert len(read_jsonl(adapter / "steps.jsonl")) == 60
        soup = Soup(
            method="prompt",
            base=scratch / "base",
            objectives=tuple(NAMES),
            mapping="prompt",
            policies=(Policy("prompt-1", adapter, (0.5, 0.5)),),
            preferences=((0.0, 1.0), (1.0, 0.0)),
            reference=tmp_path / "sft",
        )

        def scores(asked, texts):
            return np.stack([reward.score(asked, texts) for reward in task.rewards], axis=1)

        scorer = Scorer(tuple(NAMES), {"reward": Measure(scores, task.normaliser)})
        asked = [{"id": str(k), "prompt": prompt} for k, prompt in enumerate(prompts * 20)]
        rows = front_rows(SoupModel.load(soup), asked, scorer, task.generation, 128, 0)
        means[others] = rows.groupby("point")[[f"reward_{name}" for name in NAMES]].mean().to_numpy()
        with pytest.raises(ValueError, match="soup prompt reads the preference in its prompt"):
            merge_adapters(soup, [0.5, 0.5])
    follows, control = (means[others][1, 0] - means[others][0, 0] for others in (False, True))
    assert follows > 1
    assert abs(control) < follows / 3


def test_the_base_gets_its_tokens_behind_those_of_the_sft_policy(tiny_policy, tmp_path):
    extend(tiny_policy, tmp_path / "base", NAMES, 3)
    before, after = (AutoTokenizer.from_pretrained(path) for path in (tiny_policy, tmp_path / "base"))
    assert min(after.convert_tokens_to_ids(reward_tokens(NAMES))) == len(before)
