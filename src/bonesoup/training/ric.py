"""Rewards-in-Context: fine-tune one model on responses with their rewards written into the prompt.

Offline, the SFT texts are labelled by the rewards and learned with these in context. Then come online rounds: draw
preferences, let the model answer with the rewards they ask for in context, and learn the answers near the front with
the rewards they really got, mixed with the offline texts near theirs. At test time a preference becomes a context.

Yang et al., ICML 2024, arXiv 2402.10207. The budget is that of Bone Soup's backbones: as many updates with as many
rows, and no more scored responses.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from bonesoup.files import appearing, read_json, read_jsonl, write_json, write_jsonl
from bonesoup.generation.reward_context import context, in_context, reward_tokens
from bonesoup.generation.sample import sample
from bonesoup.method.targets import near_front, phases, target_rewards
from bonesoup.rewards.normalise import Normaliser
from bonesoup.rewards.score import Messages, Reward, score_all
from bonesoup.settings import schema
from bonesoup.training.reward_tokens import add_tokens, untie
from bonesoup.training.sft import train_sft
from bonesoup.weights.pretrained import load_model, load_tokenizer

# Responses sampled at a time.
BATCH = 256


@dataclass(frozen=True)
class Task:
    """The inputs of RiC's training.

    Attributes:
        base: folder of the SFT policy.
        rows: SFT texts, labelled offline.
        prompts: training prompts of the online rounds.
        rewards: one per objective.
        updates: budget of all phases together.
        batch: rows of an update, and scored responses allowed per update.
        micro_batch: rows per backward pass; divides `batch`.
    """

    base: Path
    rows: list[dict]
    prompts: list[Messages]
    rewards: list[Reward]
    normaliser: Normaliser
    ric: schema.Ric
    updates: int
    batch: int
    micro_batch: int
    lora: schema.Lora | None
    generation: schema.Generation
    gradient_checkpointing: bool
    seed: int
    device: str

    @property
    def objectives(self) -> list[str]:
        return [reward.objective for reward in self.rewards]

    def score(self, prompts: list[Messages], responses: list[str]) -> np.ndarray:
        """Return scores [response, objective] in SFT standard deviations."""
        return self.normaliser(score_all(self.rewards, prompts, responses))


def train_ric(task: Task, scratch: Path) -> Path:
    """Train, reusing what `scratch` already holds: the whole, a phase, its rows, or part of its updates.

    Returns:
        Folder in `scratch` with the model, its tokenizer and ric.json: the rewards that extreme preferences ask for,
        and what was spent.

    Raises:
        ValueError: the budget is too small for a phase, or a text does not fit the context.
    """
    done = scratch / "ric"
    if not done.is_dir():
        _train(task, scratch, done)
    for leftover in scratch.iterdir():
        if leftover != done:
            shutil.rmtree(leftover)
    return done


def _train(task: Task, scratch: Path, done: Path) -> None:
    shares = phases(task.updates, task.ric.rounds, task.ric.online)
    for number, updates in enumerate(shares):
        if (scratch / str(number)).is_dir():
            print(f"ric: phase {number} is trained already", flush=True)
        else:
            (_online if number else _offline)(task, scratch, number, updates)
    phases_done = [read_json(scratch / str(number) / "phase.json") for number in range(len(shares))]
    low, high = _range([row for number in range(len(shares)) for row in _labelled(scratch, number)])
    facts = {
        "objectives": task.objectives,
        "low": low.tolist(),
        "high": high.tolist(),
        "updates": task.updates,
        "rows_per_update": task.batch,
        "responses_scored": sum(phase["scored"] for phase in phases_done),
        "phases": phases_done,
    }
    with appearing(done) as folder:
        shutil.copytree(scratch / str(len(shares) - 1) / "model", folder)
        write_json(folder / "ric.json", facts)


def _offline(task: Task, scratch: Path, number: int, updates: int) -> None:
    tokenizer = load_tokenizer(task.base)
    model = load_model(AutoModelForCausalLM, task.base)
    torch.manual_seed(task.seed)
    add_tokens(model, tokenizer, task.objectives)
    if task.lora:
        untie(model)
    prepared = scratch / f"rows-{number}"
    if not prepared.is_dir():
        order = np.random.default_rng([task.seed, number]).permutation(len(task.rows))
        rows = [task.rows[i] for i in order[: updates * task.batch]]
        rewards = task.score([row["prompt"] for row in rows], [row["response"] for row in rows])
        labelled = [
            {"id": row["id"], "prompt": row["prompt"], "response": row["response"], "rewards": got}
            for row, got in zip(rows, rewards.tolist(), strict=True)
        ]
        _prepare(prepared, labelled, labelled, {})
    _phase(task, scratch, number, updates, model, tokenizer)


def _online(task: Task, scratch: Path, number: int, updates: int) -> None:
    folder = scratch / str(number - 1) / "model"
    tokenizer = load_tokenizer(folder)
    model = load_model(AutoModelForCausalLM, folder).to(task.device).eval()
    prepared = scratch / f"rows-{number}"
    if not prepared.is_dir():
        before = [row for earlier in range(number) for row in _labelled(scratch, earlier)]
        random = np.random.default_rng([task.seed, number])
        count = updates * task.batch
        prompts = [task.prompts[i] for i in random.permutation(np.arange(count) % len(task.prompts))]
        asked = target_rewards(random.dirichlet(np.ones(len(task.rewards)), count), *_range(before))
        goals = [in_context(p, context(task.objectives, goal)) for p, goal in zip(prompts, asked, strict=True)]
        seeds = [(task.seed + 1) * 11_000_003 + number * count + i for i in range(count)]
        texts = _answers(task, model, tokenizer, goals, seeds, scratch / f"answers-{number}")
        got = task.score(prompts, texts)
        answers = [
            {"id": f"online-{number}-{i}", "prompt": prompt, "response": text, "rewards": rewards}
            for i, (prompt, text, rewards) in enumerate(zip(prompts, texts, got.tolist(), strict=True))
        ]
        offline = _best(task, _labelled(scratch, 0))
        online = _best(task, answers)
        for earlier in range(1, number):
            online += _best(task, _labelled(scratch, earlier))
        mixed = [*online, *[offline[i] for i in random.permutation(len(offline))[: len(online)]]]
        facts = {"asked": asked.mean(axis=0).tolist(), "got": got.mean(axis=0).tolist(), "near_front": len(online)}
        _prepare(prepared, answers, mixed, facts)
    _phase(task, scratch, number, updates, model, tokenizer)


def _answers(
    task: Task,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[Messages],
    seeds: list[int],
    folder: Path,
) -> list[str]:
    """Sample an answer to each prompt; each batch is kept in `folder`, and taken from there by a resumed run."""
    texts = []
    for start in range(0, len(prompts), BATCH):
        part, file = slice(start, start + BATCH), folder / f"{start}.json"
        if not file.exists():
            responses = sample(
                model,
                tokenizer,
                prompts[part],
                seeds[part],
                task.generation.temperature,
                task.generation.max_new_tokens,
                batch=BATCH,
            )
            write_json(file, [response.text for response in responses])
        texts += read_json(file)
    return texts


def _prepare(folder: Path, labelled: list[dict], rows: list[dict], facts: dict) -> None:
    """Keep what a phase has labelled and the rows that it learns from."""
    with appearing(folder) as temporary:
        write_jsonl(temporary / "labelled.jsonl", labelled)
        write_jsonl(temporary / "rows.jsonl", rows)
        write_json(temporary / "facts.json", facts)


def _phase(
    task: Task,
    scratch: Path,
    number: int,
    updates: int,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    """Learn the phase's rows with their rewards in context; write the model and the labelled rows to scratch."""
    prepared, trainer = scratch / f"rows-{number}", scratch / f"trainer-{number}"
    rows, labelled = read_jsonl(prepared / "rows.jsonl"), read_jsonl(prepared / "labelled.jsonl")
    trained, _ = train_sft(
        model,
        tokenizer,
        [row | {"prompt": in_context(row["prompt"], context(task.objectives, row["rewards"]))} for row in rows],
        [],
        schema.Sft(steps=updates, batch=task.batch, learning_rate=task.ric.learning_rate, lora=task.lora),
        task.seed + number,
        trainer,
        task.device,
        name=f"ric, online round {number}" if number else "ric, offline",
        micro_batch=task.micro_batch,
        gradient_checkpointing=task.gradient_checkpointing,
        tokens=tokenizer.convert_tokens_to_ids(reward_tokens(task.objectives)),
    )
    facts = {"updates": updates, "scored": len(labelled), "rows": len(rows)} | read_json(prepared / "facts.json")
    with appearing(scratch / str(number)) as folder:
        trained.save_pretrained(folder / "model")
        tokenizer.save_pretrained(folder / "model")
        write_jsonl(folder / "labelled.jsonl", labelled)
        write_json(folder / "phase.json", facts)
    shutil.rmtree(trainer, ignore_errors=True)


def _labelled(scratch: Path, number: int) -> list[dict]:
    return read_jsonl(scratch / str(number) / "labelled.jsonl")


def _best(task: Task, rows: list[dict]) -> list[dict]:
    kept = near_front([row["rewards"] for row in rows], task.ric.keep)
    return [row for row, stays in zip(rows, kept, strict=True) if stays]


def _range(rows: list[dict]) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and the highest reward of labelled rows, each [objective]: the paper's bounds for requests."""
    rewards = np.array([row["rewards"] for row in rows])
    return rewards.min(axis=0), rewards.max(axis=0)
