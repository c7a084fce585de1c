"""Configure a LoRA adapter to be trained."""

from pathlib import Path
from typing import Any

from peft import LoraConfig
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from bonesoup.files import read_json, write_json
from bonesoup.settings.schema import Lora


def lora_config(lora: Lora, task: str, model: PreTrainedModel, tokens: list[int] | None = None) -> LoraConfig:
    """Return PEFT's settings; the embeddings of `tokens` are trained along with the adapter.

    Args:
        task: PEFT's task type. SEQ_CLS also trains the whole scalar head.
        model: to be adapted.

    Raises:
        ValueError: a target that the model lacks; PEFT passes over it as long as another is there.
    """
    if isinstance(lora.targets, list):
        modules = dict(model.named_modules())
        if unknown := [t for t in lora.targets if not any(f".{name}".endswith(f".{t}") for name in modules)]:
            linear = {name.split(".")[-1] for name, module in modules.items() if isinstance(module, nn.Linear | Conv1D)}
            raise ValueError(
                f"lora.targets: {type(model).__name__} has no module {', '.join(unknown)}; its linear layers are "
                f"{', '.join(sorted(linear))}"
            )
    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.targets,
        task_type=task,
        trainable_token_indices=tokens,
    )


def settle_config(folder: Path, **changes: Any) -> None:
    """Write adapter_config.json again, with `changes` and in a fixed order: PEFT stores the target modules in a set."""
    path = folder / "adapter_config.json"
    settings = read_json(path) | changes
    if isinstance(settings["target_modules"], list):
        settings["target_modules"] = sorted(settings["target_modules"])
    write_json(path, settings)
