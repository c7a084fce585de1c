"""Configure a LoRA adapter to be trained."""

from peft import LoraConfig

from bonesoup.settings.schema import Lora


def lora_config(lora: Lora, task: str, tokens: list[int] | None = None) -> LoraConfig:
    """Return PEFT's settings; the embeddings of `tokens` are trained along with the adapter.

    Args:
        task: PEFT's task type. SEQ_CLS also trains the whole scalar head.
    """
    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.targets,
        task_type=task,
        trainable_token_indices=tokens,
    )
