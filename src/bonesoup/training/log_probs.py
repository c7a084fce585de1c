"""Log-probabilities of responses with a frozen head, and the hidden states of prompts shared by several responses.

A vocabulary of 49,152 words makes logits the largest tensor of a step. They are computed here a few tokens at a time;
what the backward pass needs of them, the gradient with respect to the hidden state, is computed in the same place.
"""

from dataclasses import dataclass

import torch
from torch.nn.functional import linear
from transformers import PreTrainedModel

from bonesoup.generation.sample import padded, positions

# Elements of the logits in memory at a time: 32 MB in float32; three such tensors are alive at once.
CHUNK = 2**23


@dataclass(frozen=True)
class Batch:
    """Prompts with several responses each.

    Attributes:
        prompt_ids, prompt_mask: [prompt, token], padded on the left.
        response_ids, response_mask: [prompt * responses, token], padded on the right.
    """

    prompt_ids: torch.Tensor
    prompt_mask: torch.Tensor
    response_ids: torch.Tensor
    response_mask: torch.Tensor

    @property
    def responses(self) -> int:
        """Return the number of responses per prompt."""
        return len(self.response_ids) // len(self.prompt_ids)

    @classmethod
    def of(cls, prompts: list[list[int]], responses: list[list[int]], pad: int, device: torch.device) -> "Batch":
        """Pad token ids; the responses of a prompt are consecutive."""
        ids, mask = padded(prompts, pad, device, left=True)
        return cls(ids, mask, *padded(responses, pad, device))


def hidden_states(model: PreTrainedModel, batch: Batch, shared: bool) -> torch.Tensor:
    """Return the state from which each token of a response is predicted, [row, token, feature].

    Args:
        shared: run each prompt once and its responses on its keys and values, instead of each row as a whole. The
            results differ by rounding; it is not for models that recompute activations, as those keep no keys.
    """
    backbone, n = model.base_model, batch.responses
    prompt_mask = batch.prompt_mask.repeat_interleave(n, 0)
    mask = torch.cat([prompt_mask, batch.response_mask[:, :-1]], 1)
    if not shared:
        ids = torch.cat([batch.prompt_ids.repeat_interleave(n, 0), batch.response_ids[:, :-1]], 1)
        output = backbone(input_ids=ids, attention_mask=mask, position_ids=positions(mask), use_cache=False)
        return output.last_hidden_state[:, prompt_mask.shape[1] - 1 :]
    prompt = backbone(
        input_ids=batch.prompt_ids,
        attention_mask=batch.prompt_mask,
        position_ids=positions(batch.prompt_mask),
        use_cache=True,
    )
    first = prompt.last_hidden_state[:, -1:].repeat_interleave(n, 0)
    if batch.response_ids.shape[1] == 1:
        return first
    cache = prompt.past_key_values
    cache.batch_repeat_interleave(n)
    rest = backbone(
        input_ids=batch.response_ids[:, :-1],
        attention_mask=mask,
        position_ids=positions(mask)[:, prompt_mask.shape[1] :],
        past_key_values=cache,
        use_cache=True,
    )
    return torch.cat([first, rest.last_hidden_state], 1)


def log_probabilities(
    model: PreTrainedModel, batch: Batch, temperature: float, shared: bool = True
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return log pi(response | prompt) in nats [row], and the entropy of each of its tokens [token], without gradient.

    Both are of the distribution at `temperature`.
    """
    hidden, mask = hidden_states(model, batch, shared), batch.response_mask.bool()
    head = model.get_output_embeddings()
    log_probs, entropy = _TokenLogProbs.apply(
        hidden[mask], batch.response_ids[mask], head.weight, getattr(head, "bias", None), temperature
    )
    rows = torch.arange(len(mask), device=mask.device).repeat_interleave(mask.sum(1))
    return torch.zeros(len(mask), device=mask.device).index_add(0, rows, log_probs), entropy


def check_head(model: PreTrainedModel, ids: list[int]) -> None:
    """Check that the logits of a model are its head times its last hidden state, as this module assumes.

    Raises:
        ValueError: the model does something else with them (a soft cap, a scale).
    """
    tokens = torch.tensor([ids], device=model.device)
    head = model.get_output_embeddings()
    with torch.no_grad():
        logits = model(input_ids=tokens).logits.float()
        hidden = model.base_model(input_ids=tokens).last_hidden_state
        mine = linear(hidden, head.weight, getattr(head, "bias", None)).float()
    rounding = max(1e-4, 4 * torch.finfo(model.dtype).eps)
    if float((mine - logits).abs().max()) > rounding * float(logits.abs().max()):
        raise ValueError(
            f"{type(model).__name__} changes its logits after the head (a soft cap or a scale), which the trainer of "
            "all policies at once does not do: set hardware.accelerate to accelerate/one-gpu.yaml or "
            "accelerate/cpu-two.yaml, which train one policy at a time by TRL"
        )


class _TokenLogProbs(torch.autograd.Function):
    """Hidden states [token, feature] -> log-probabilities of `ids` [token] and entropies [token], in nats.

    The head is frozen. With p the softmax of a token's logits z = W h / T, d log p_i / d h = W^T (e_i - p) / T.
    """

    @staticmethod
    def forward(ctx, hidden, ids, weight, bias, temperature):
        gradient = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        log_probs = torch.empty(len(hidden), device=hidden.device)
        entropy = torch.empty_like(log_probs)
        size = max(1, CHUNK // len(weight))
        for start in range(0, len(hidden), size):
            here = slice(start, start + size)
            every = (linear(hidden[here], weight, bias).float() / temperature).log_softmax(-1)
            chosen = ids[here, None]
            log_probs[here] = every.gather(-1, chosen).squeeze(-1)
            probabilities = every.exp()
            entropy[here] = -every.mul_(probabilities).sum(-1)
            if gradient is not None:
                pull = probabilities.neg_().scatter_add_(-1, chosen, torch.ones_like(probabilities[:, :1]))
                gradient[here] = pull.div_(temperature).to(weight.dtype) @ weight
        ctx.save_for_backward(gradient)
        ctx.mark_non_differentiable(entropy)
        return log_probs, entropy

    @staticmethod
    def backward(ctx, outer, _):
        (gradient,) = ctx.saved_tensors
        return gradient * outer[:, None].to(gradient.dtype), None, None, None, None
