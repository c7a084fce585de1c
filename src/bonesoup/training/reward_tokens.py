"""Give a model tokens that its prompts use and that it never samples: the levels of each objective."""

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from bonesoup.generation.reward_context import LEVELS, reward_tokens


def add_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, objectives: list[str]) -> None:
    """Append the reward tokens; existing tokens keep their ids, so that the base can score this model's responses.

    Their embeddings, scaled like the others, start on a line for each objective, so that rare levels share in what
    their neighbours learn.

    Raises:
        ValueError: the tokenizer already has one of the tokens.
    """
    if known := sorted(set(reward_tokens(objectives)) & set(tokenizer.get_vocab())):
        raise ValueError(f"the tokenizer of the SFT policy has the token {known[0]} already: rename that objective")
    first = len(tokenizer)
    tokenizer.add_tokens(reward_tokens(objectives), special_tokens=True)
    # Pretrained embeddings are often padded beyond the tokenizer: never cut them.
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(len(tokenizer))
    weight = model.get_input_embeddings().weight.detach()
    mean, spread = weight[:first].float().mean(0), weight[:first].float().std(0)
    start, direction = torch.randn(2, len(objectives), 1, weight.shape[1])
    line = start + torch.tensor(LEVELS / LEVELS.max(), dtype=torch.float32)[:, None] * direction
    weight[first : len(tokenizer)] = (mean + spread * line.flatten(0, 1)).to(weight.dtype)


def untie(model: PreTrainedModel) -> None:
    """Untie the head from the embeddings.

    Apart from LoRA only the new tokens' embeddings are trained. In a head that shares them, PEFT's wrapper would hide
    them from TRL's loss; and tokens that are never sampled need no trained row in the head.
    """
    head = model.get_output_embeddings()
    head.weight = torch.nn.Parameter(head.weight.detach().clone())
    model.config.tie_word_embeddings = False


def silence(model: PreTrainedModel, tokens: Sequence[int]) -> None:
    """Give `tokens` no probability, whatever the hidden state: the model's distribution is over the others."""
    head = model.get_output_embeddings()
    bias = torch.zeros(len(head.weight), dtype=head.weight.dtype, device=head.weight.device)
    # Its exponential is 0 in float32; -inf would make 0 * log 0 of the entropy NaN.
    bias[list(tokens)] = -1e4
    head.bias = torch.nn.Parameter(bias, requires_grad=False)
