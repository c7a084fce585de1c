"""The untrained base policy: from scratch by a config, or an existing causal language model."""

import torch
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from bonesoup.chat import bpe_tokenizer, only_ours, with_template, words_tokenizer
from bonesoup.settings import schema
from bonesoup.weights.pretrained import load_model, load_tokenizer


def base_policy(model: schema.Model, texts: list[str], seed: int) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Model and tokenizer before SFT; `texts` are what a from-scratch tokenizer learns its tokens from.

    Raises:
        ValueError: a context longer than a pretrained model has positions, or weights that may not be read.
    """
    if model.source != "scratch":
        dtype = getattr(torch, model.dtype)
        tokenizer = with_template(load_tokenizer(model.source, model.revision))
        tokenizer.model_max_length = model.context
        policy = load_model(AutoModelForCausalLM, model.source, model.revision, model.convert_bin, dtype=dtype)
        positions = getattr(policy.config, "max_position_embeddings", None)
        if positions and model.context > positions:
            raise ValueError(f"model.context = {model.context}, but {model.source} has {positions} positions")
        only_ours(policy, tokenizer)
        return policy, tokenizer
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
