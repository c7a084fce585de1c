"""sft: the base policy, made or loaded, fine-tuned on the SFT texts."""

from bonesoup.files import appearing, read_jsonl, write_json
from bonesoup.paths import METRICS, SCRATCH, SFT, SFT_ROWS
from bonesoup.settings.schema import Settings
from bonesoup.training.base import base_policy
from bonesoup.training.sft import train_sft


def run(settings: Settings, key: None) -> None:
    rows = read_jsonl(SFT_ROWS)
    train = [row for row in rows if row["split"] == "train"]
    validation = [row for row in rows if row["split"] == "validation"]
    texts = [text for row in train for text in (*(m["content"] for m in row["prompt"]), row["response"])]
    policy, tokenizer = base_policy(settings.model, texts, settings.seed)
    policy, metrics = train_sft(
        policy,
        tokenizer,
        train,
        validation,
        settings.sft,
        settings.model.context,
        settings.seed,
        scratch=SCRATCH / "sft",
        device=settings.device,
        gradient_checkpointing=settings.hardware.gradient_checkpointing,
    )
    with appearing(SFT) as folder:
        policy.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    write_json(METRICS / "sft.json", metrics | {"parameters": policy.num_parameters()})
    print(f"sft: {policy.num_parameters():,} parameters, validation loss {metrics['validation_loss']:.3f}")
