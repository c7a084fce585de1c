"""Choose the next token row by row: penalties, cuts of the distribution, noise, log-probabilities.

Each row depends on its request alone. The order is that of Transformers' generate: penalties, forbidden tokens (those
that would break a JSON schema among them), temperature, top_k, top_p, min_p; then a draw with the row's noise.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from bonesoup.generation.noise import draw

# Number of most probable tokens in which a nucleus is searched first.
HEAD = 1024


@dataclass(frozen=True)
class Likelihood:
    """A token's log-probability in nats under the model at temperature 1, and the likeliest tokens in its place."""

    id: int
    logprob: float
    top: tuple[tuple[int, float], ...]


def likelihoods(logits: torch.Tensor, ids: Sequence[int], top: int) -> list[Likelihood]:
    """Return the log-probabilities of `ids` [token] under logits [token, vocabulary], and the `top` likeliest."""
    log_probs = logits.float().log_softmax(-1)
    chosen = log_probs.gather(-1, torch.tensor(ids, device=logits.device)[:, None])[:, 0].tolist()
    values, places = log_probs.topk(min(top, log_probs.shape[-1]), dim=-1)
    likeliest = zip(places.tolist(), values.tolist(), strict=True)
    return [
        Likelihood(token, value, tuple(zip(*pair, strict=True)))
        for token, value, pair in zip(ids, chosen, likeliest, strict=True)
    ]


def penalise(logits: torch.Tensor, request, made: list[int]) -> None:
    """Change logits [vocabulary] in place by the request's penalties.

    The repetition penalty divides positive and multiplies negative logits of tokens in prompt and answer (CTRL,
    arXiv:1909.05858); presence and frequency penalties are subtracted for tokens of the answer, as OpenAI defines them.
    """
    if request.repetition_penalty != 1:
        seen = torch.tensor(sorted({*request.prompt, *made}), device=logits.device)
        values, factor = logits[seen], request.repetition_penalty
        logits[seen] = torch.where(values < 0, values * factor, values / factor)
    if made and (request.presence_penalty or request.frequency_penalty):
        ids, counts = torch.tensor(made, device=logits.device).unique(return_counts=True)
        logits[ids] -= request.presence_penalty + request.frequency_penalty * counts


def cut(logits: torch.Tensor, requests: Sequence) -> torch.Tensor:
    """Exclude the tokens of logits [row, vocabulary] / temperature that top_k, top_p and min_p rule out."""
    for i, request in enumerate(requests):
        if 0 < request.top_k < logits.shape[-1]:
            smallest = logits[i].topk(request.top_k).values[-1]
            logits[i] = logits[i].masked_fill(logits[i] < smallest, -torch.inf)
    if any(request.top_p < 1 for request in requests):
        logits = nucleus(logits, torch.tensor([[request.top_p] for request in requests], device=logits.device))
    for i, request in enumerate(requests):
        if request.min_p:
            probabilities = logits[i].softmax(-1)
            logits[i] = logits[i].masked_fill(probabilities < request.min_p * probabilities.max(), -torch.inf)
    return logits


def nucleus(logits: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    """Exclude all tokens of logits [row, vocabulary] but the most probable ones that sum to `top_p` [row, 1]."""
    # Sorting a large vocabulary takes longer than a step of the model, and the nucleus seldom has more than these.
    for count in (min(HEAD, logits.shape[-1]), logits.shape[-1]):
        ordered, order = logits.topk(count, dim=-1)
        mass = (ordered - logits.logsumexp(-1, keepdim=True)).exp()
        # Keep the token that crosses the threshold, and always the first, however float32 rounds top_p.
        inside = mass.cumsum(-1) - mass < top_p
        inside[:, 0] = True
        if not bool((inside[:, -1:] & (top_p < 1)).any()):
            break
    kept = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, order, inside)
    return logits.masked_fill(~kept & (top_p < 1), -torch.inf)


def choose(logits: torch.Tensor, rows: Sequence, never: list[int], ends: set[int]) -> list[int]:
    """Return the next token of each row; `logits` [row, vocabulary] are overwritten.

    Args:
        rows: `batch.Row` of each.
        never: tokens that are never sampled.
        ends: the end tokens, which a row does not take before its `min_tokens`, or ever with `ignore_eos`.
    """
    for i, row in enumerate(rows):
        penalise(logits[i], row.request, row.made)
        if row.request.ignore_eos or len(row.made) < row.request.min_tokens:
            logits[i, sorted(ends)] = -torch.inf
        if row.json:
            logits[i].masked_fill_(~row.json.allowed().to(logits.device), -torch.inf)
    logits[:, never] = -torch.inf
    chosen = logits.argmax(-1).cpu()
    sampled = [i for i, row in enumerate(rows) if row.request.temperature > 0]
    if sampled:
        hot = [rows[i].request for i in sampled]
        temperature = torch.tensor([[request.temperature] for request in hot], device=logits.device)
        scaled = cut(logits[sampled] / temperature, hot)
        chosen[sampled] = draw(scaled, [rows[i].noise for i in sampled])
    return chosen.tolist()
