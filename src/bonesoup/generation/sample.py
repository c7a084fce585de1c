"""Sample batches of responses with a seed per row, and measure the log-probability of responses."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import LogitsProcessor, LogitsProcessorList, PreTrainedModel, PreTrainedTokenizerBase

from bonesoup.chat import never_sampled
from bonesoup.generation.noise import Noise, draw

Messages = list[dict[str, str]]


@dataclass(frozen=True)
class Response:
    """A sampled response.

    Attributes:
        text: without special tokens.
        token_ids: the sampled tokens, with the end token if it was reached.
        finished: whether the end token was reached.
    """

    text: str
    token_ids: list[int]
    finished: bool


class RowNoise(LogitsProcessor):
    """Sample in a greedy `generate`: of logits [row, vocabulary], leave only a token drawn with each row's noise."""

    def __init__(self, seeds: list[int], temperature: float):
        self.rows = [Noise(seed) for seed in seeds]
        self.temperature = temperature

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        tokens = draw(scores.float() / self.temperature, self.rows).to(scores.device)
        return torch.full_like(scores, -torch.inf).scatter(-1, tokens[:, None], 0)


def render(tokenizer: PreTrainedTokenizerBase, prompts: list[Messages]) -> list[str]:
    """Render prompts through the chat template, up to the start of the answer."""
    return [tokenizer.apply_chat_template(p, tokenize=False, add_generation_prompt=True) for p in prompts]


def encode(tokenizer: PreTrainedTokenizerBase, prompts: list[Messages]):
    """Return left-padded input_ids and attention_mask, both [batch, longest prompt]."""
    texts = render(tokenizer, prompts)
    return tokenizer(texts, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False)


@torch.inference_mode()
def sample(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[Messages],
    seeds: list[int],
    temperature: float,
    max_new_tokens: int,
    batch: int,
) -> list[Response]:
    """Sample one response per prompt; row i depends on its prompt, seeds[i] and the model alone."""
    responses = []
    for start in range(0, len(prompts), batch):
        part = slice(start, start + batch)
        responses += generate(model, tokenizer, prompts[part], RowNoise(seeds[part], temperature), max_new_tokens)
    return responses


def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[Messages],
    chooser: LogitsProcessor,
    max_new_tokens: int,
) -> list[Response]:
    """Continue prompts in one batch with the tokens that `chooser` leaves, up to their end tokens."""
    inputs = encode(tokenizer, prompts).to(model.device)
    output = model.generate(
        **inputs,
        do_sample=False,
        max_new_tokens=max_new_tokens,
        suppress_tokens=never_sampled(tokenizer),
        logits_processor=LogitsProcessorList([chooser]),
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return responses_of(tokenizer, output[:, inputs["input_ids"].shape[1] :])


def responses_of(tokenizer: PreTrainedTokenizerBase, sampled: torch.Tensor) -> list[Response]:
    """Make responses of sampled ids [row, token], cut after their end token."""
    return [_response(tokenizer, ids) for ids in sampled.tolist()]


def _response(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> Response:
    finished = tokenizer.eos_token_id in ids
    if finished:
        ids = ids[: ids.index(tokenizer.eos_token_id) + 1]
    return Response(tokenizer.decode(ids, skip_special_tokens=True), ids, finished)


@torch.inference_mode()
def log_probabilities(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[Messages],
    responses: list[Response],
    batch: int,
    temperature: float = 1.0,
) -> torch.Tensor:
    """Return log pi(response | prompt), summed over the sampled tokens, in nats [batch]."""
    parts = [
        log_probabilities_of(
            model, tokenizer, prompts[start : start + batch], responses[start : start + batch], temperature
        )
        for start in range(0, len(prompts), batch)
    ]
    return torch.cat(parts)


@torch.inference_mode()
def log_probabilities_of(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[Messages],
    responses: list[Response],
    temperature: float,
    combine: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> torch.Tensor:
    """Return `log_probabilities` of one batch.

    Args:
        combine: reduces the logits of each consecutive group of rows to a single row.
    """
    inputs = encode(tokenizer, prompts).to(model.device)
    ids, mask = padded([response.token_ids for response in responses], tokenizer.pad_token_id, model.device)
    attention = torch.cat([inputs["attention_mask"], mask], dim=1)
    logits = model(
        input_ids=torch.cat([inputs["input_ids"], ids], dim=1),
        attention_mask=attention,
        position_ids=positions(attention),
        logits_to_keep=ids.shape[1] + 1,
    ).logits[:, :-1]
    if combine:
        rows = len(logits)
        logits = combine(logits)
        ids, mask = ids[:: rows // len(logits)], mask[:: rows // len(logits)]
    log_probs = (logits.float() / temperature).log_softmax(-1)
    return (log_probs.gather(-1, ids.unsqueeze(-1)).squeeze(-1) * mask).sum(1).cpu()


def padded(
    rows: list[list[int]], pad: int, device: torch.device, left: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids and mask, both int64 [row, longest]."""
    ids = [torch.tensor(row, dtype=torch.int64) for row in rows]
    ids, mask = (
        pad_sequence(each, batch_first=True, padding_value=fill, padding_side="left" if left else "right")
        for each, fill in ((ids, pad), ([torch.ones_like(row) for row in ids], 0))
    )
    return ids.to(device), mask.to(device)


def positions(mask: torch.Tensor) -> torch.Tensor:
    """Count the positions of a mask [row, token] as `generate` does: padding on the left does not shift a row."""
    return (mask.cumsum(1) - 1).clamp(min=0)
