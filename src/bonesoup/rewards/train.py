"""Train a whole reward model with TRL or Transformers: Bradley-Terry on pairs, regression or classification on labels.

Both start from the SFT policy's weights with a new scalar head.
"""

from pathlib import Path

import torch
from datasets import Dataset
from peft import get_peft_model
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    PreTrainedTokenizerBase,
    Trainer,
    TrainingArguments,
)
from trl import RewardConfig, RewardTrainer

from bonesoup.callbacks import StepLines, quiet
from bonesoup.chat import check_context
from bonesoup.resume import arguments, train
from bonesoup.rewards.score import render
from bonesoup.settings import schema
from bonesoup.weights.lora import lora_config


def train_reward(
    name: str,
    base: Path,
    rows: list[dict],
    reward: schema.PairReward | schema.LabelReward,
    seed: int,
    out: Path,
    scratch: Path,
    device: str,
) -> dict:
    """Train on `rows` (all of the train split) and save model and tokenizer to `out`.

    Args:
        scratch: folder named after everything that affects the result; a killed run resumes from it.

    Returns:
        The fields of reward.json that reading the model needs: its input format and logit.
    """
    # Pad on the right, as scoring does: with learned positions the side matters.
    tokenizer = AutoTokenizer.from_pretrained(base, padding_side="right")
    torch.manual_seed(seed)
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1, dtype=torch.float32)
    if reward.kind == "labels":
        # One logit and binary cross-entropy: the score is the log-odds of the label, with no free offset.
        graded = reward.loss == "regression"
        model.config.problem_type = "regression" if graded else "multi_label_classification"
    if reward.lora:
        model = get_peft_model(model, lora_config(reward.lora, "SEQ_CLS", model))
    common = arguments(reward, scratch, seed, device)
    if reward.kind == "pairs":
        trainer = RewardTrainer(
            model=model,
            args=RewardConfig(**common, max_length=None),
            processing_class=tokenizer,
            train_dataset=Dataset.from_dict(
                {f"{side}_ids": _ids(tokenizer, rows, side) for side in ("chosen", "rejected")}
            ),
        )
    else:
        trainer = Trainer(
            model=model,
            args=TrainingArguments(**common),
            data_collator=DataCollatorWithPadding(tokenizer),
            train_dataset=_labelled(tokenizer, rows, reward.loss),
        )
    quiet(trainer)
    trainer.add_callback(StepLines(name, ["loss", "accuracy"]))
    train(trainer, name)
    # Not trainer.save_model, which also saves its arguments: they name a temporary folder, and the same run must give
    # the same bytes.
    trained = trainer.model.merge_and_unload() if reward.lora else trainer.model
    trained.save_pretrained(out)
    tokenizer.save_pretrained(out)
    return {"input": "chat", "logit": 0}


def _ids(tokenizer: PreTrainedTokenizerBase, rows: list[dict], column: str) -> list[list[int]]:
    texts = render(tokenizer, "chat", [row["prompt"] for row in rows], [row[column] for row in rows])
    check_context(tokenizer, [row["id"] for row in rows], texts, 0, f"dialogues with their {column}")
    return tokenizer(texts, add_special_tokens=False)["input_ids"]


def _labelled(tokenizer: PreTrainedTokenizerBase, rows: list[dict], loss: str) -> Dataset:
    """Tokenise labelled responses.

    Raises:
        ValueError: classification has labels other than 0 and 1.
    """
    labels = [row["label"] for row in rows]
    if loss == "classification":
        if odd := [row for row in rows if row["label"] not in (0, 1)]:
            raise ValueError(
                f"label of row {odd[0]['id']} is {odd[0]['label']}: classification needs 0 or 1; "
                "set loss: regression for graded labels"
            )
        labels = [[float(label)] for label in labels]
    return Dataset.from_dict({"input_ids": _ids(tokenizer, rows, "response"), "labels": labels})
