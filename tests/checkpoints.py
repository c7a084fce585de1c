"""Checkpoints for tests of weights: tiny Llamas saved by Transformers, and folders of any tensors."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

IDS = torch.arange(24).reshape(2, 12)


def llama(folder: Path, seed: int = 0, dtype: torch.dtype = torch.float32, shard: str = "5GB", **settings) -> Path:
    """Save a Llama of random weights, as `save_pretrained` does."""
    torch.manual_seed(seed)
    shape = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    shape |= {"num_attention_heads": 2, "initializer_range": 0.3, "bos_token_id": 0, "eos_token_id": 1}
    model = LlamaForCausalLM(LlamaConfig(**(shape | settings))).to(dtype)
    model.save_pretrained(folder, max_shard_size=shard)
    return folder


def folder_of(folder: Path, tensors: dict[str, torch.Tensor], **config) -> Path:
    """Write a folder with these tensors, in a made-up architecture."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"model_type": "made-up", "architectures": ["MadeUpForCausalLM"], "tie_word_embeddings": False}
    (folder / "config.json").write_text(json.dumps(settings | config))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    """Read all tensors of a folder, whatever its files are."""
    return {name: tensor for file in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(file).items()}
