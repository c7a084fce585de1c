"""sft: the base policy fine-tuned on the SFT texts, or passed on if it is tuned already."""

import os
import shutil

from bonesoup.files import appearing, digest, file_digest, read_json, read_jsonl, write_json
from bonesoup.paths import BASE, METRICS, SFT, SFT_ROWS
from bonesoup.settings import schema
from bonesoup.settings.schema import Settings
from bonesoup.training.base import base_policy
from bonesoup.training.scratch import programs, scratch
from bonesoup.training.sft import train_sft


def run(settings: Settings, key: None) -> None:
    if settings.sft is None:
        if not read_json(BASE / "base.json")["own_chat_template"]:
            raise ValueError(
                f"sft: null, but {settings.model.source} has no chat template that renders an answer as "
                "prompt + text + end token: give sft settings, so that it learns ours"
            )
        with appearing(SFT) as folder:
            shutil.copytree(BASE, folder, copy_function=link)
        write_json(METRICS / "sft.json", {"rows": 0})
        print("sft: none; the base policy is taken as it is")
        return
    rows = read_jsonl(SFT_ROWS)
    train = [row for row in rows if row["split"] == "train"]
    validation = [row for row in rows if row["split"] == "validation"]
    texts = [text for row in train for text in (*(m["content"] for m in row["prompt"]), row["response"])]
    policy, tokenizer = base_policy(converted(settings.model), texts, settings.seed)
    with scratch(digest("sft", _inputs(settings))) as place:
        policy, metrics = train_sft(
            policy,
            tokenizer,
            train,
            validation,
            settings.sft,
            settings.seed,
            scratch=place,
            device=settings.device,
            gradient_checkpointing=settings.hardware.gradient_checkpointing,
        )
        with appearing(SFT) as folder:
            policy.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
        write_json(METRICS / "sft.json", metrics | {"parameters": policy.num_parameters()})
        shutil.rmtree(place)
    print(f"sft: {policy.num_parameters():,} parameters, validation loss {metrics['validation_loss']:.3f}")


def _inputs(settings: Settings) -> list:
    """List everything that decides what the policy is, code and libraries included."""
    files = [SFT_ROWS] if settings.model.source == "scratch" else [SFT_ROWS, BASE]
    return [
        settings.model.model_dump(),
        settings.sft.model_dump(),
        [settings.hardware.gradient_checkpointing, settings.seed, settings.threads, settings.device],
        *programs(__name__),
        [file_digest(path) for path in files],
    ]


def converted(model: schema.Model) -> schema.Model:
    """Point a pretrained model's settings at what stage base made of it."""
    if model.source == "scratch":
        return model
    return model.model_copy(update={"source": str(BASE), "revision": None, "sha256": None, "convert_bin": False})


def link(source: str, target: str) -> None:
    """Link a file, or copy it where the file system has no links. Stages replace files and never write into them."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
