"""ric: train Rewards-in-Context, one model for every preference; nothing unless the method is selected."""

import shutil
from pathlib import Path

from bonesoup.files import appearing, digest, file_digest, read_json, read_jsonl, write_json
from bonesoup.method.methods import METHODS
from bonesoup.paths import NORMALISER, PROMPTS, REWARDS, RIC, SFT, SFT_ROWS
from bonesoup.settings.schema import Settings
from bonesoup.training.scratch import programs, scratch


def run(settings: Settings, key: None) -> None:
    with appearing(RIC) as folder:
        if any(METHODS[method].stage == "ric" for method in settings.methods):
            _train(settings, folder)
        else:
            write_json(folder / "skipped.json", {"reason": "ric is not among methods"})
            print("ric: not among methods")


def _train(settings: Settings, folder: Path) -> None:
    from bonesoup.chat import check_context
    from bonesoup.generation.sample import render
    from bonesoup.rewards.normalise import Normaliser
    from bonesoup.rewards.score import load_rewards
    from bonesoup.training.ric import Task, train_ric
    from bonesoup.weights.pretrained import load_tokenizer

    rl = settings.rl
    tokenizer, rows = load_tokenizer(SFT), read_jsonl(PROMPTS)
    texts = render(tokenizer, [row["prompt"] for row in rows])
    # Prompts have one token more per objective than those of other methods.
    extra = settings.generation.max_new_tokens + len(settings.objectives)
    check_context(
        tokenizer, [row["id"] for row in rows], texts, extra, "prompts with RiC's reward tokens and responses"
    )
    task = Task(
        base=SFT,
        rows=[row for row in read_jsonl(SFT_ROWS) if row["split"] == "train"],
        prompts=[row["prompt"] for row in rows if row["split"] == "train"],
        rewards=load_rewards([REWARDS / name for name in settings.objectives], settings.device),
        normaliser=Normaliser.read(NORMALISER),
        ric=settings.ric,
        updates=rl.budget(settings.basis.backbones(len(settings.objectives))),
        batch=rl.prompts * rl.generations,
        micro_batch=rl.micro_batch,
        lora=settings.sft.lora,
        generation=settings.generation,
        gradient_checkpointing=settings.hardware.gradient_checkpointing,
        seed=settings.seed,
        device=settings.device,
    )
    fingerprint = digest(task.updates, task.batch, _inputs(settings))
    with scratch(fingerprint) as work:
        trained = train_ric(task, work)
    shutil.copytree(trained, folder)
    facts = read_json(folder / "ric.json")
    write_json(folder / "ric.json", facts | {"seed": settings.seed, "fingerprint": fingerprint})
    print(f"ric: {facts['updates']} updates, {facts['responses_scored']} responses scored")


def _inputs(settings: Settings) -> list:
    """List everything but the budget that decides what the model is, code and libraries included."""
    return [
        settings.ric.model_dump(),
        [settings.rl.micro_batch, settings.sft.lora and settings.sft.lora.model_dump()],
        settings.generation.model_dump(),
        settings.hardware.gradient_checkpointing,
        [settings.seed, settings.threads, settings.device],
        *programs(__name__),
        [file_digest(path) for path in (SFT, NORMALISER, PROMPTS, SFT_ROWS)],
        [file_digest(REWARDS / name) for name in settings.objectives],
    ]
