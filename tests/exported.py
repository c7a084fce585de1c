"""A base that every engine runs, with a byte-level tokenizer, adapters on it, and rows of two of them."""

from pathlib import Path

import architectures
import gguf_files
from gguf_files import model, tokenizer
from tokenizers import pre_tokenizers

from bonesoup.weights.gguf_model import convert

SPLITS = {
    "gpt-2": pre_tokenizers.ByteLevel(add_prefix_space=False),
    "smollm": pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    ),
}
# Objectives in another order than adapters; rows whose solution leaves [0, 1].
ROWS = {"calm": {"kind": 0.7, "brief": 0.3}, "bold": {"kind": 0.3, "brief": 0.7}}


def write_model(folder, architecture: str, split: str = "smollm", hidden_size: int = 64, **changes):
    """Save a tiny model of four heads with a tokenizer that splits text in a known way."""
    vocabulary, merges, _ = tokenizer(SPLITS[split])
    made = model(architecture, len(vocabulary), hidden_size)
    gguf_files.write(folder.with_suffix(".made"), made, vocabulary, merges, split)
    _, words = convert(folder.with_suffix(".made"), made.dtype)
    for name, value in changes.items():
        setattr(made.config, name, value)
    made.save_pretrained(folder)
    words.save_pretrained(folder)
    return made, words


def write_adapters(root: Path) -> None:
    """Save adapters of different ranks, alphas and modules on `base` of the folder: calm, bold and odd."""
    for seed, (name, rank, modules) in enumerate(
        (("calm", 2, ["q_proj", "up_proj"]), ("bold", 3, ["q_proj", "k_proj", "down_proj"]), ("odd", 4, ["o_proj"]))
    ):
        architectures.policy(root / "base", root / name, seed, r=rank, lora_alpha=2 * rank, target_modules=modules)
