"""Supervised fine-tuning of the base policy by TRL's SFTTrainer."""

from pathlib import Path

from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import SFTConfig, SFTTrainer

from bonesoup.callbacks import StepLines, quiet
from bonesoup.chat import check_context
from bonesoup.files import read_json, write_json
from bonesoup.resume import arguments, train
from bonesoup.settings import schema
from bonesoup.weights.lora import lora_config


def conversation(row: dict) -> dict:
    """Turn a row of sft.jsonl into TRL's prompt/completion form."""
    return {
        "prompt": row["prompt"],
        "completion": [{"role": "assistant", "content": row["response"]}],
    }


def train_sft(
    policy: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: list[dict],
    validation: list[dict],
    sft: schema.Sft,
    seed: int,
    scratch: Path,
    device: str,
    name: str = "sft",
    micro_batch: int | None = None,
    tokens: list[int] | None = None,
    gradient_checkpointing: bool = False,
) -> tuple[PreTrainedModel, dict]:
    """Train on the responses (prompt tokens carry no loss).

    Args:
        validation: may be empty.
        scratch: folder named after everything that affects the result. A killed run resumes from the checkpoints
            there, with the same result bit for bit.
        name: shown in the progress lines.
        micro_batch: rows per backward pass, a divisor of sft.batch; None is sft.batch.
        tokens: ids whose embeddings are trained along with `sft.lora`; the other embeddings stay frozen.

    Returns:
        The trained policy (adapters folded in), and metrics: validation loss in nats per token before and after.

    Raises:
        ValueError: a row that does not fit the context.
    """
    every = [*rows, *validation]
    messages = [[*row["prompt"], {"role": "assistant", "content": row["response"]}] for row in every]
    texts = [tokenizer.apply_chat_template(dialogue, tokenize=False) for dialogue in messages]
    check_context(tokenizer, [row["id"] for row in every], texts, 0, "SFT texts")
    rows_a_pass = micro_batch or sft.batch
    changes = {
        "per_device_train_batch_size": rows_a_pass,
        "gradient_accumulation_steps": sft.batch // rows_a_pass,
        "per_device_eval_batch_size": sft.batch,
        "max_length": tokenizer.model_max_length,
        "gradient_checkpointing": gradient_checkpointing,
    }
    trainer = SFTTrainer(
        model=policy,
        args=SFTConfig(**arguments(sft, scratch, seed, device) | changes),
        processing_class=tokenizer,
        train_dataset=Dataset.from_list([conversation(row) for row in rows]),
        eval_dataset=Dataset.from_list([conversation(row) for row in validation]) if validation else None,
        peft_config=lora_config(sft.lora, "CAUSAL_LM", policy, tokens) if sft.lora else None,
        callbacks=[StepLines(name, ["loss"])],
    )
    quiet(trainer)
    metrics, before = {}, scratch / "before.json"
    if validation:
        # A resumed trainer no longer has the untrained policy.
        if not before.exists():
            write_json(before, {"validation_loss_before": trainer.evaluate()["eval_loss"]})
        metrics |= read_json(before)
    train(trainer, name)
    if validation:
        metrics["validation_loss"] = trainer.evaluate()["eval_loss"]
    trained = trainer.model.merge_and_unload() if sft.lora else trainer.model
    return trained, metrics | {"rows": len(rows)}
