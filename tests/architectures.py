"""Tiny models of several architectures and random policies on them, saved by PEFT as training saves them."""

from pathlib import Path

import torch
import transformers
from peft import LoraConfig, get_peft_model

SHAPE = {"vocab_size": 90, "max_position_embeddings": 128}
HALVES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
CONFIGS = {
    "llama": lambda: transformers.LlamaConfig(**SHAPE, **HALVES, num_key_value_heads=2),
    "gpt2": lambda: transformers.GPT2Config(vocab_size=90, n_positions=128, n_embd=32, n_layer=2, n_head=4),
    "qwen2": lambda: transformers.Qwen2Config(**SHAPE, **HALVES, num_key_value_heads=2, tie_word_embeddings=True),
    "qwen3": lambda: transformers.Qwen3Config(**SHAPE, **HALVES, num_key_value_heads=2, head_dim=8),
    "gemma2": lambda: transformers.Gemma2Config(
        **SHAPE, **HALVES, num_key_value_heads=2, head_dim=8, sliding_window=6, query_pre_attn_scalar=8
    ),
    "gpt_neox": lambda: transformers.GPTNeoXConfig(**SHAPE, **HALVES),
}


def base(name: str, seed: int = 0) -> transformers.PreTrainedModel:
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(CONFIGS[name]()).eval()
    # Untrained models repeat one token; wider weights make them say different things.
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.25)
    model.tie_weights()
    return model


def policy(model_folder: Path, out: Path, seed: int, **settings) -> Path:
    """Save an adapter whose B is not zero."""
    model = transformers.AutoModelForCausalLM.from_pretrained(model_folder)
    torch.manual_seed(seed)
    tuned = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **settings))
    for name, value in tuned.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(value, std=0.15)
    tuned.save_pretrained(out)
    return out
