"""Sample from a product of policies (MOD): log pi = log pi_base + sum_j lambda_j (log pi_j - log pi_base), per token.

A row runs once per policy, in neighbouring rows of the batch, and all its copies take the token that the mixture
draws. With lambda on the simplex the base cancels and is not run.

Source: MOD (Shi et al. 2024, arXiv 2406.18853), the reverse-KL case.
"""

import numpy as np
import torch
from transformers import LogitsProcessor

from bonesoup.generation.sample import Messages, Response, RowNoise, generate, log_probabilities_of
from bonesoup.generation.soup import SoupModel


def members(coefficients: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distributions that rows [row, policy] of coefficients mix, and their weights.

    Returns:
        mixtures: coefficients over policies of every member [member, policy]; the base is the row of zeros.
        weights: exponents of every member [row, member].
    """
    rest = 1 - coefficients.sum(axis=1, keepdims=True)
    mixtures, weights = np.eye(coefficients.shape[1]), coefficients
    if np.abs(rest).max() > 1e-9:
        mixtures, weights = np.vstack([mixtures, np.zeros(len(mixtures))]), np.hstack([coefficients, rest])
    used = np.abs(weights).max(axis=0) > 0
    return mixtures[used], weights[:, used]


def product(logits: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Combine logits [row * member, ...] with weights [row, member] into those of the mixture [row, ...].

    A token that a member rules out (-inf) stays out.
    """
    logits = logits.float().view(*weights.shape, *logits.shape[1:])
    out = logits.isneginf()
    shape = (*weights.shape, *[1] * (logits.ndim - 2))
    mixed = (logits.masked_fill(out, 0) * weights.view(shape)).sum(1)
    return mixed.masked_fill(out.any(1), -torch.inf)


class _Together(LogitsProcessor):
    """Give all copies of a row the token that the mixture draws."""

    def __init__(self, weights: torch.Tensor, seeds: list[int], temperature: float):
        self.weights = weights
        self.noise = RowNoise(seeds, temperature)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        mixed = self.noise(input_ids, product(scores, self.weights))
        return mixed.repeat_interleave(self.weights.shape[1], dim=0)


@torch.inference_mode()
def sample_product(
    policy: SoupModel,
    coefficients: np.ndarray,
    prompts: list[Messages],
    seeds: list[int],
    temperature: float,
    max_new_tokens: int,
) -> tuple[list[Response], torch.Tensor]:
    """Sample one response per prompt, each from its mixture of distributions.

    Args:
        coefficients: lambda [row, policy].

    Returns:
        The responses, and the log-probability of each [row] in nats.
    """
    mixtures, weights = members(coefficients)
    copies = len(mixtures)
    weights = torch.tensor(weights, dtype=torch.float32, device=policy.model.device)
    repeated = [prompt for prompt in prompts for _ in range(copies)]
    policy.mix(np.tile(mixtures, (len(prompts), 1)))
    together = _Together(weights, seeds, temperature)
    copied = generate(policy.model, policy.tokenizer, repeated, together, max_new_tokens)
    log_probs = log_probabilities_of(
        policy.model, policy.tokenizer, repeated, copied, temperature, lambda logits: product(logits, weights)
    )
    return copied[::copies], log_probs
