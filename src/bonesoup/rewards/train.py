"""Learned rewards: Bradley-Terry on pairs by TRL's RewardTrainer, or regression / classification on labels.

Both start from the SFT policy's weights with a new scalar head, and both are measured on held-out rows.
"""

from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from scipy.stats import binomtest, pearsonr
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    PreTrainedTokenizerBase,
    Trainer,
    TrainingArguments,
)
from trl import RewardConfig, RewardTrainer

from bonesoup.chat import check_room
from bonesoup.progress import StepLines, quiet
from bonesoup.rewards.score import Reward, render
from bonesoup.settings import schema


def train_reward(
    name: str,
    base: Path,
    rows: list[dict],
    reward: schema.PairReward | schema.LabelReward,
    seed: int,
    out: Path,
    device: str,
) -> dict:
    """Train on `rows` (all of the train split) and save model and tokenizer to `out`.

    Returns:
        What reward.json needs to read the model back: its input format and logit.
    """
    # Padding on the right, as scoring pads: with learned positions the side matters.
    tokenizer = AutoTokenizer.from_pretrained(base, padding_side="right")
    torch.manual_seed(seed)
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1, dtype=torch.float32)
    arguments = {
        "output_dir": str(out.with_name(out.name + ".trainer")),
        "max_steps": reward.steps,
        "per_device_train_batch_size": reward.batch,
        "learning_rate": reward.learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": max(1, reward.steps // 20),
        "weight_decay": 0.0,
        "seed": seed,
        "logging_steps": max(1, reward.steps // 10),
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": device == "cpu",
        "bf16": device == "cuda",
        "gradient_checkpointing": False,
        "dataloader_pin_memory": False,
    }
    if reward.kind == "pairs":
        trainer = RewardTrainer(
            model=model,
            args=RewardConfig(**arguments, max_length=None),
            processing_class=tokenizer,
            train_dataset=_pairs(tokenizer, rows),
        )
    else:
        # One logit and binary cross-entropy: the score is the log-odds of the label, with no free offset.
        graded = reward.loss == "regression"
        model.config.problem_type = "regression" if graded else "multi_label_classification"
        trainer = Trainer(
            model=model,
            args=TrainingArguments(**arguments),
            data_collator=DataCollatorWithPadding(tokenizer),
            train_dataset=_labelled(tokenizer, rows, reward.loss),
        )
    quiet(trainer)
    trainer.add_callback(StepLines(name, ["loss", "accuracy"]))
    trainer.train()
    # Not trainer.save_model: it adds its arguments, which name a temporary folder, and the same run must give the
    # same bytes.
    trainer.model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    return {"input": "chat", "logit": 0}


def _ids(tokenizer: PreTrainedTokenizerBase, rows: list[dict], column: str) -> list[list[int]]:
    texts = render(tokenizer, "chat", [row["prompt"] for row in rows], [row[column] for row in rows])
    check_room(tokenizer, [row["id"] for row in rows], texts, 0, f"dialogues with their {column}")
    return tokenizer(texts, add_special_tokens=False)["input_ids"]


def _pairs(tokenizer: PreTrainedTokenizerBase, rows: list[dict]) -> Dataset:
    return Dataset.from_dict(
        {"chosen_ids": _ids(tokenizer, rows, "chosen"), "rejected_ids": _ids(tokenizer, rows, "rejected")}
    )


def _labelled(tokenizer: PreTrainedTokenizerBase, rows: list[dict], loss: str) -> Dataset:
    """Raises ValueError where classification gets labels other than 0 and 1."""
    labels = [row["label"] for row in rows]
    if loss == "classification":
        if odd := [row for row in rows if row["label"] not in (0, 1)]:
            raise ValueError(
                f"label of row {odd[0]['id']} is {odd[0]['label']}: classification needs 0 or 1; "
                "set loss: regression for graded labels"
            )
        labels = [[float(label)] for label in labels]
    return Dataset.from_dict({"input_ids": _ids(tokenizer, rows, "response"), "labels": labels})


def held_out(reward: Reward, rows: list[dict], confidence: float = 0.95) -> dict:
    """Accuracy of a reward on held-out rows, with a Clopper-Pearson interval.

    Pairs: the share whose chosen response scores higher. Labelled responses: the share of pairs of rows with
    unlike labels that the score puts in the label's order (each row meets one other), and Pearson's r.
    """
    if not rows:
        raise ValueError(f"reward {reward.objective}: no held-out rows to measure it on; raise data.validation")
    if "chosen" in rows[0]:
        prompts = [row["prompt"] for row in rows]
        better = reward.score(prompts, [row["chosen"] for row in rows])
        worse = reward.score(prompts, [row["rejected"] for row in rows])
        return _accuracy(better - worse, confidence)
    scores = reward.score([row["prompt"] for row in rows], [row["response"] for row in rows])
    labels = np.array([row["label"] for row in rows], float)
    order = np.random.default_rng(0).permutation(len(rows))
    first, second = order[: len(order) // 2], order[len(order) // 2 :][: len(order) // 2]
    unlike = labels[first] != labels[second]
    signs = np.sign(labels[first] - labels[second])[unlike]
    report = _accuracy(signs * (scores[first] - scores[second])[unlike], confidence)
    varied = len(rows) > 2 and labels.std() > 0 and scores.std() > 0
    return report | {"correlation": float(pearsonr(scores, labels).statistic) if varied else 0.0}


def _accuracy(margins: np.ndarray, confidence: float) -> dict:
    """Share of positive margins; ties count as wrong."""
    n, right = len(margins), int((margins > 0).sum())
    if n == 0:
        raise ValueError("no two held-out rows with unlike labels to measure a reward on; raise data.validation")
    interval = binomtest(right, n).proportion_ci(confidence_level=confidence)
    return {"accuracy": right / n, "accuracy_low": interval.low, "accuracy_high": interval.high, "n": n}
