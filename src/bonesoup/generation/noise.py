"""Draw tokens with separate noise for each row, so that an answer does not depend on the other rows of its batch.

Gumbel-max: the argmax of logits plus Gumbel noise is a sample of their softmax. Two policies that share a seed share
their noise, which makes their comparison paired.

Noise for every word of a large vocabulary takes a quarter of the time of sampling. There only the likely tokens get
noise, and the rest of the vocabulary is drawn as one: the largest of several Gumbels around l_i is a Gumbel around
log sum exp(l_i), and its index does not depend on its value (Maddison et al. 2014, arXiv 1411.0030). The sample is
exact.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

# Size up to which all words get noise, and the number of likely tokens in larger vocabularies.
SMALL, LIKELY = 8192, 64

_GOLDEN, _FIRST, _SECOND = (np.uint64(n) for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


@dataclass(eq=False)
class Noise:
    """The noise of one row, from its seed and the number of tokens drawn so far."""

    seed: int
    drawn: int = 0
    generator: torch.Generator = field(init=False)

    def __post_init__(self):
        self.generator = torch.Generator().manual_seed(self.seed)


def draw(logits: torch.Tensor, rows: Sequence[Noise]) -> torch.Tensor:
    """Sample a token of softmax(logits) for every row: float32 [row, vocabulary] -> [row], on the CPU."""
    width = logits.shape[-1]
    if width <= SMALL:
        exponential = torch.stack([torch.empty(width).exponential_(generator=row.generator) for row in rows])
        tokens = (logits - exponential.to(logits.device).log()).argmax(-1).cpu()
    else:
        tokens = _draw_likely(logits, [(row.seed, row.drawn) for row in rows])
    for row in rows:
        row.drawn += 1
    return tokens


def _draw_likely(logits: torch.Tensor, steps: Sequence[tuple[int, int]]) -> torch.Tensor:
    values, tokens = logits.topk(LIKELY, dim=-1)
    rest = logits.scatter(-1, tokens, -torch.inf)
    mass = rest.logsumexp(-1, keepdim=True)
    # The rest of the vocabulary is the index after the last likely token.
    contenders = torch.cat([values, mass], dim=1).double().cpu().numpy()
    tokens = torch.cat([tokens, torch.full_like(tokens[:, :1], logits.shape[-1])], dim=1).cpu().numpy()
    winners = (contenders + gumbel(steps, tokens)).argmax(1)
    chosen = tokens[np.arange(len(tokens)), winners]
    for row in np.flatnonzero(winners == LIKELY):
        everyone = np.arange(logits.shape[-1])[None]
        noisy = rest[row].double().cpu().numpy() + gumbel([steps[row]], everyone)[0]
        chosen[row] = noisy.argmax()
    return torch.from_numpy(chosen)


def gumbel(steps: Sequence[tuple[int, int]], tokens: np.ndarray) -> np.ndarray:
    """Return the Gumbel noise of tokens [row, token] at each row's (seed, tokens drawn so far), float64.

    Counter-based: splitmix64 from a state that mixes seed and step, at the token's place (Steele et al. 2014).
    """
    seeds = np.array([seed % 2**64 for seed, _ in steps], np.uint64)[:, None]
    drawn = np.array([drawn for _, drawn in steps], np.uint64)[:, None]
    with np.errstate(over="ignore"):
        state = _mix(_mix(seeds + _GOLDEN) + (drawn + np.uint64(1)) * _GOLDEN)
        bits = _mix(state + (tokens.astype(np.uint64) + np.uint64(1)) * _GOLDEN)
    uniform = ((bits >> np.uint64(11)) + 0.5) * 2.0**-53
    return -np.log(-np.log(uniform))


def _mix(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint64(30))) * _FIRST
    x = (x ^ (x >> np.uint64(27))) * _SECOND
    return x ^ (x >> np.uint64(31))
