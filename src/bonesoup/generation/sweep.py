"""Answer the same prompts at several preferences: in one mixed batch, or one preference at a time for many prompts."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from bonesoup.generation.mod import sample_product
from bonesoup.generation.reward_context import in_context, reward_tokens
from bonesoup.generation.sample import Messages, Response, log_probabilities_of, sample
from bonesoup.generation.soup import FOLD_FROM, SoupModel


def sweep(
    policy: SoupModel,
    coefficients: np.ndarray,
    prompts: list[Messages],
    seeds: list[int],
    temperature: float,
    max_new_tokens: int,
    batch: int,
    contexts: Sequence[str] = (),
    skip: int = 0,
    likelihoods: bool = False,
) -> Iterator[tuple[np.ndarray, list[Response], np.ndarray | None]]:
    """Answer every prompt at every point; prompt i has the noise of seeds[i] at each point.

    Args:
        coefficients: lambda [point, policy].
        batch: rows at once.
        contexts: for every point, the text appended to its prompts, if the soup reads preferences from the prompt.
        skip: number of batches to leave out, which an earlier call has done.
        likelihoods: measure log-probabilities too, in a second pass over the responses. Noting them while tokens are
            drawn would save it, but cached steps round differently in bfloat16, by some .05 nats of a KL.

    Yields:
        rows: indices of the point-major table [point * prompt], each once and in order.
        responses: one per row.
        log_probs: of each response under its mixture, in nats [row]; None without `likelihoods`.
    """
    count = len(prompts)
    for rows in chunks(len(coefficients), count, batch)[skip:]:
        messages = [prompts[row % count] for row in rows]
        if contexts:
            messages = [in_context(m, contexts[row // count]) for m, row in zip(messages, rows, strict=True)]
        noise = [seeds[row % count] for row in rows]
        if policy.soup.mixes == "distributions":
            responses, log_probs = sample_product(
                policy, coefficients[rows // count], messages, noise, temperature, max_new_tokens
            )
            yield rows, responses, log_probs.double().numpy()
            continue
        policy.mix(coefficients[rows // count])
        responses = sample(policy.model, policy.tokenizer, messages, noise, temperature, max_new_tokens, len(rows))
        if not likelihoods:
            yield rows, responses, None
            continue
        combine = _without_reward_tokens(policy) if contexts else None
        log_probs = log_probabilities_of(policy.model, policy.tokenizer, messages, responses, temperature, combine)
        yield rows, responses, log_probs.double().numpy()


def _without_reward_tokens(policy: SoupModel) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return a function that gives reward tokens, which the model only reads, no probability."""
    silent = policy.tokenizer.convert_tokens_to_ids(reward_tokens(policy.soup.objectives))
    return lambda logits: logits.index_fill(-1, torch.tensor(silent, device=logits.device), -torch.inf)


def chunks(points: int, prompts: int, batch: int) -> list[np.ndarray]:
    """Cut the point-major table into parts of at most `batch` rows; with many prompts no part has two points."""
    table = np.arange(points * prompts)
    parts = table.reshape(points, prompts) if prompts >= FOLD_FROM else [table]
    return [part[start : start + batch] for part in parts for start in range(0, len(part), batch)]
