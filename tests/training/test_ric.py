"""Rewards-in-Context: its budget, its learning, the parts of the SFT policy it keeps, and resuming."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from bonesoup import resume
from bonesoup.chat import never_sampled
from bonesoup.evaluation.front_rows import Measure, Scorer, front_rows
from bonesoup.files import read_json
from bonesoup.generation.reward_context import context, in_context, reward_tokens
from bonesoup.generation.sample import encode, log_probabilities, sample
from bonesoup.generation.soup import Soup, SoupModel
from bonesoup.rewards.normalise import Normaliser
from bonesoup.rewards.score import Reward
from bonesoup.settings import schema
from bonesoup.training import ric, sft

NAMES = ["flour", "yes"]


def count(word: str):
    return lambda prompts, responses: [float(response.split().count(word)) for response in responses]


@pytest.fixture(scope="module")
def task(tiny_policy, prompts) -> ric.Task:
    answers = ["flour. flour. flour.", "flour. yes no", "yes yes yes", "wire. wire. wire."]
    rows = [
        {"id": str(k), "prompt": prompts[k % len(prompts)], "response": answers[k % len(answers)]} for k in range(400)
    ]
    return ric.Task(
        base=tiny_policy,
        rows=rows,
        prompts=prompts,
        rewards=[Reward("flour", count("flour.")), Reward("yes", count("yes"))],
        normaliser=Normaliser(np.array([1.0, 1.0]), np.array([1.0, 1.0])),
        ric=schema.Ric(rounds=2, online=0.5, learning_rate=0.01, keep=0.5),
        updates=80,
        batch=16,
        micro_batch=16,
        lora=None,
        generation=schema.Generation(temperature=1.0, max_new_tokens=4),
        gradient_checkpointing=False,
        seed=3,
        device="cpu",
    )


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def trained(task, tmp_path_factory) -> Path:
    torch.set_num_threads(1)
    return ric.train_ric(task, tmp_path_factory.mktemp("ric"))


def small(task: ric.Task, **changes) -> ric.Task:
    return replace(task, updates=4, batch=8, micro_batch=8, rows=task.rows[:64], **changes)


@pytest.fixture(scope="module")
def short(task, tmp_path_factory) -> Path:
    """Train a short run that nothing interrupts."""
    torch.set_num_threads(1)
    return ric.train_ric(small(task), tmp_path_factory.mktemp("short"))


def recipe(trained: Path, base: Path) -> Soup:
    facts = read_json(trained / "ric.json")
    return Soup(
        method="ric",
        base=trained,
        objectives=tuple(NAMES),
        mapping="context",
        policies=(),
        preferences=((0.0, 1.0), (0.5, 0.5), (1.0, 0.0)),
        reach=(tuple(facts["low"]), tuple(facts["high"])),
        reference=base,
    )


def front(trained: Path, task: ric.Task):
    def scores(prompts, texts):
        return np.stack([reward.score(prompts, texts) for reward in task.rewards], axis=1)

    scorer = Scorer(tuple(NAMES), {"reward": Measure(scores, task.normaliser)})
    asked = [{"id": str(k), "prompt": prompt} for k, prompt in enumerate(task.prompts * 10)]
    return front_rows(SoupModel.load(recipe(trained, task.base)), asked, scorer, task.generation, 64, 0)


def test_the_budget_is_spent_and_not_exceeded(trained, task):
    facts = read_json(trained / "ric.json")
    assert [phase["updates"] for phase in facts["phases"]] == [40, 20, 20]
    assert facts["updates"] == task.updates
    # The offline phase has fewer texts than its share allows.
    assert [phase["scored"] for phase in facts["phases"]] == [400, 320, 320]
    assert facts["responses_scored"] == 1040 <= task.updates * task.batch


def test_what_is_asked_is_what_is_got(trained, task):
    rows = front(trained, task)
    means = rows.groupby("point")[["reward_flour", "reward_yes"]].mean().to_numpy()
    assert means[2, 0] > means[0, 0] + 1
    assert means[0, 1] > means[2, 1] + 1


def test_kl_is_to_the_sft_policy_on_the_plain_prompt_and_reward_tokens_have_no_part_in_it(trained, task):
    rows = front(trained, task)
    row = rows[rows["point"] == 2].iloc[4]
    tokenizer, model = AutoTokenizer.from_pretrained(trained), AutoModelForCausalLM.from_pretrained(trained).eval()
    base = AutoModelForCausalLM.from_pretrained(task.base).eval()
    soup, prompt = recipe(trained, task.base), task.prompts[4]
    answer = tokenizer(row["response"], add_special_tokens=False)["input_ids"]
    answer += [tokenizer.eos_token_id] * bool(row["finished"])
    asked = in_context(prompt, context(NAMES, [soup.reach[1][0], soup.reach[0][1]]))
    sizes = {}
    for name, policy, messages in (("own", model, asked), ("sft", base, prompt)):
        start = encode(tokenizer, [messages])["input_ids"][0].tolist()
        with torch.no_grad():
            logits = policy(torch.tensor([start + answer])).logits[0, len(start) - 1 : -1]
        known = logits[:, : base.config.vocab_size].log_softmax(-1)
        sizes[name] = sum(known[i, token].item() for i, token in enumerate(answer))
    assert len(answer) == row["tokens"]
    assert row["kl"] == pytest.approx(sizes["own"] - sizes["sft"], abs=1e-3)


def test_reward_tokens_come_after_the_words_of_the_base_and_are_never_sampled(trained, task):
    before, after = AutoTokenizer.from_pretrained(task.base), AutoTokenizer.from_pretrained(trained)
    assert {token: after.get_vocab()[token] for token in before.get_vocab()} == before.get_vocab()
    ids = after.convert_tokens_to_ids(reward_tokens(NAMES))
    assert min(ids) == len(before)
    assert set(ids) <= set(never_sampled(after))
    model = AutoModelForCausalLM.from_pretrained(trained).eval()
    # Hot enough that a token that could be sampled would be.
    answers = sample(model, after, task.prompts * 20, list(range(120)), 50.0, 8, 60)
    assert max(token for response in answers for token in response.token_ids) < len(before)


class Killed(Exception):
    pass


@pytest.mark.parametrize("at", [1, 2])
def test_a_run_killed_after_a_phase_goes_on_to_the_same_model(task, short, tmp_path, monkeypatch, capsys, at):
    task = small(task)
    real = ric._phase

    def dying(task, scratch, number, *rest):
        if number == at:
            raise Killed
        real(task, scratch, number, *rest)

    monkeypatch.setattr(ric, "_phase", dying)
    with pytest.raises(Killed):
        ric.train_ric(task, tmp_path / "broken")
    monkeypatch.setattr(ric, "_phase", real)
    capsys.readouterr()
    resumed = ric.train_ric(task, tmp_path / "broken")
    assert capsys.readouterr().out.count("is trained already") == at
    for file in sorted(path.name for path in short.iterdir()):
        assert (resumed / file).read_bytes() == (short / file).read_bytes(), file
    # Nothing is left but the result, and it is taken as it is.
    assert [path.name for path in (tmp_path / "broken").iterdir()] == ["ric"]
    assert ric.train_ric(task, tmp_path / "broken") == resumed
    assert "step" not in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("lora", [None, schema.Lora(rank=2, alpha=4)])
def test_a_run_killed_within_a_phase_goes_on_to_the_same_model(task, tmp_path, monkeypatch, capsys, lora):
    """Killed in the middle of every phase's updates and of every round's answers, by turns, until it ends."""
    task = small(task, lora=lora)
    monkeypatch.setattr(ric, "BATCH", 5)
    monkeypatch.setattr(resume, "SHARE", float("inf"))
    monkeypatch.setattr(sft, "train", partial(resume.train, seconds=0))
    whole = ric.train_ric(task, tmp_path / "whole")
    step, write, done = resume.SaveEvery.on_step_end, ric.write_json, set()

    def dying_step(self, args, state, control, **rest):
        step(self, args, state, control, **rest)
        if state.global_step == state.max_steps and args.output_dir not in done:
            done.add(args.output_dir)
            raise Killed

    def dying_write(path, value):
        write(path, value)
        if path.name == "5.json" and path not in done:
            done.add(path)
            raise Killed

    monkeypatch.setattr(resume.SaveEvery, "on_step_end", dying_step)
    monkeypatch.setattr(ric, "write_json", dying_write)
    for _ in range(5):
        with pytest.raises(Killed):
            ric.train_ric(task, tmp_path / "broken")
    resumed = ric.train_ric(task, tmp_path / "broken")
    assert "ric, offline: resuming at step 1 of 2" in capsys.readouterr().out
    for file in sorted(path.name for path in whole.iterdir()):
        assert (resumed / file).read_bytes() == (whole / file).read_bytes(), file


def test_another_seed_is_another_model(task, short, tmp_path):
    other = ric.train_ric(small(task, seed=task.seed + 1), tmp_path)
    assert (short / "model.safetensors").read_bytes() != (other / "model.safetensors").read_bytes()


def test_a_batch_in_parts_is_the_same_update(task, short, tmp_path):
    parts = ric.train_ric(replace(small(task), micro_batch=2), tmp_path)
    one, two = (AutoModelForCausalLM.from_pretrained(folder).state_dict() for folder in (short, parts))
    for name in one:
        assert torch.allclose(one[name], two[name], atol=2e-3), name


def test_with_lora_only_its_modules_and_the_reward_tokens_move(task, tmp_path):
    folder = ric.train_ric(small(task, lora=schema.Lora(rank=4, alpha=8)), tmp_path)
    before = AutoModelForCausalLM.from_pretrained(task.base)
    after = AutoModelForCausalLM.from_pretrained(folder)
    start, end, size = before.state_dict(), after.state_dict(), before.config.vocab_size
    assert start.keys() == end.keys()
    moved = {name for name in start if not torch.equal(start[name], end[name][: len(start[name])])}
    assert moved == {name for name in start if "_proj" in name}
    tokenizer = AutoTokenizer.from_pretrained(folder)
    # Tokens that no row had keep what they were given; some moved, each of them an input only.
    assert len(tokenizer) == len(end["model.embed_tokens.weight"]) == size + len(reward_tokens(NAMES))
    assert not torch.equal(end["model.embed_tokens.weight"][size:], end["lm_head.weight"][size:])
    score = log_probabilities(after.eval(), tokenizer, task.prompts, _answers(after, tokenizer, task), 6)
    assert torch.isfinite(score).all()


def _answers(model, tokenizer, task):
    return sample(model, tokenizer, task.prompts, list(range(6)), 1.0, 4, 6)


def test_no_online_round_is_the_offline_phase_alone(task, tmp_path):
    alone = small(task, ric=schema.Ric(rounds=0, learning_rate=0.01))
    facts = read_json(ric.train_ric(alone, tmp_path) / "ric.json")
    assert [phase["updates"] for phase in facts["phases"]] == [4]
    assert facts["responses_scored"] == 32


def test_embeddings_that_are_padded_are_not_cut(tiny_policy):
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny_policy), AutoTokenizer.from_pretrained(tiny_policy)
    model.resize_token_embeddings(100)
    ric.add_tokens(model, tokenizer, NAMES)
    assert model.get_input_embeddings().num_embeddings == 100
    assert tokenizer.convert_tokens_to_ids(reward_tokens(NAMES)[0]) == model.config.vocab_size - 100 + 22


def test_an_objective_whose_token_the_policy_knows_is_refused(tiny_policy):
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny_policy), AutoTokenizer.from_pretrained(tiny_policy)
    tokenizer.add_tokens(["<yes:+1.0>"])
    with pytest.raises(ValueError, match=r"has the token <yes:\+1.0> already: rename that objective"):
        ric.add_tokens(model, tokenizer, NAMES)


def test_a_text_that_does_not_fit_with_its_context_is_named(task, tmp_path):
    long = {"id": "long", "prompt": task.prompts[0], "response": " ".join(["yes"] * 57)}
    with pytest.raises(ValueError, match=r"8 SFT texts do not fit model.context = 64: row long has 65 tokens"):
        ric.train_ric(replace(small(task), rows=[long] * 8), tmp_path)
