"""Roll out several policies in one batch, with separate noise for each policy."""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn.functional import linear

from bonesoup.files import digest
from bonesoup.generation.sample import padded, positions
from bonesoup.training.stack import AdapterStack, Mixture


def uniforms(
    seed: int, rows: Sequence[Sequence[float]], step: int, prompts: Sequence[int], responses: int, tokens: int
) -> np.ndarray:
    """Draw the noise of one policy's rollouts, [prompt * responses, token] in [0, 1).

    Each response has a separate generator, keyed by the seed, the weight row of its prompt, the step, the prompt's
    place among the training prompts and the response's number: its noise depends on nothing else.

    Args:
        rows: [prompt, objective].
        prompts: places [prompt].
    """
    return np.stack(
        [
            np.random.default_rng([seed, int(digest(row), 16), step, prompt, number]).random(tokens)
            for row, prompt in zip(rows, prompts, strict=True)
            for number in range(responses)
        ]
    )


def draw(logits: torch.Tensor, noise: torch.Tensor, temperature: float) -> torch.Tensor:
    """Sample softmax(logits / temperature), logits [row, word], by inversion: one uniform number a row."""
    mass = (logits.float() / temperature).softmax(-1).cumsum(-1, dtype=torch.float64)
    # The last word with mass closes the interval, however the sum is rounded.
    return torch.searchsorted(mass, noise[:, None] * mass[:, -1:], right=True).squeeze(-1).clamp(max=mass.shape[1] - 1)


@torch.no_grad()
def roll_out(
    stack: AdapterStack,
    policies: Sequence[Mixture],
    prompts: Sequence[list[list[int]]],
    noise: np.ndarray,
    temperature: float,
    end: int,
    pad: int,
    barred: list[int],
) -> torch.Tensor:
    """Sample the responses of every policy to its prompts.

    Args:
        policies: the adapters of each, mixed by prompt.
        prompts: token ids [policy][prompt].
        noise: [policy, prompt * responses, token], of `uniforms`.
        end: the token that ends a response.
        barred: tokens that are never sampled.

    Returns:
        Token ids [policy, prompt * responses, token], up to the longest response; what follows an end is `pad`.
    """
    device, many = stack.model.device, len(policies)
    rows, limit = noise.shape[1], noise.shape[2]
    uniform = torch.tensor(noise, device=device).flatten(0, 1)
    head = stack.model.get_output_embeddings()
    ids, mask = padded([prompt for each in prompts for prompt in each], pad, device, left=True)
    sampled = torch.full((many * rows, limit), pad, device=device)
    finished = torch.zeros(many * rows, dtype=torch.bool, device=device)
    with stack.using(policies):
        output = stack.model.base_model(
            input_ids=ids, attention_mask=mask, position_ids=positions(mask), use_cache=True
        )
        responses, cache = rows // len(prompts[0]), output.past_key_values
        cache.batch_repeat_interleave(responses)
        mask = mask.repeat_interleave(responses, 0)
        hidden = output.last_hidden_state[:, -1].repeat_interleave(responses, 0)
        for place in range(limit):
            # Block by block, as in the layers, so that no policy's tokens depend on the number of policies.
            drawn = []
            for states, numbers in zip(hidden.chunk(many), uniform[:, place].chunk(many), strict=True):
                logits = linear(states, head.weight, getattr(head, "bias", None))
                logits[:, barred] = -torch.inf
                drawn.append(draw(logits, numbers, temperature))
            token = torch.cat(drawn).masked_fill(finished, pad)
            sampled[:, place] = token
            finished |= token == end
            if place == limit - 1 or bool(finished.all()):
                break
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
            hidden = stack.model.base_model(
                input_ids=token[:, None],
                attention_mask=mask,
                position_ids=mask.sum(1, keepdim=True) - 1,
                past_key_values=cache,
                use_cache=True,
            ).last_hidden_state[:, -1]
    return sampled[:, : place + 1].view(many, rows, -1)
