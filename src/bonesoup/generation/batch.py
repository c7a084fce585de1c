"""Continuous batching: rows with their own preference, seed and limits join and leave a running batch.

Each step adds one token to every running row. A row's answer depends on its request alone, float rounding aside: its
noise comes from its seed, as in `sample`, and padding is masked and does not count as a position. The cache of the
model must hold keys and values only, no recurrent states.
"""

import inspect
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.nn.functional import pad
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from bonesoup.chat import never_sampled
from bonesoup.generation.json_answers import JsonAnswer, JsonSchema
from bonesoup.generation.noise import Noise
from bonesoup.generation.sample import padded, positions
from bonesoup.generation.sampling import Likelihood, choose, likelihoods
from bonesoup.generation.soup import SoupModel


@dataclass(frozen=True, eq=False)
class Request:
    """One prompt to continue.

    Attributes:
        key: the caller's name for the row, unique among the running rows.
        prompt: token ids, through the chat template.
        coefficients: lambda [policy] over the policies of the `SoupModel`.
        temperature: 0 takes the most probable token.
        top_p: sample from the most probable tokens that together have this probability; 1 from all.
        top_k: sample from this many of the most probable tokens; 0 from all.
        min_p: sample from tokens at least this many times as probable as the likeliest; 0 from all.
        repetition_penalty, presence_penalty, frequency_penalty: see `sampling.penalise`.
        min_tokens: tokens before which the answer does not end.
        ignore_eos: never end before `max_new_tokens`.
        alternatives: give the log-probability of every token, and of this many likeliest; None for none.
        schema: the answer must be JSON of it; needs `min_tokens` 0 and not `ignore_eos`. None for any text.
    """

    key: Hashable
    prompt: Sequence[int]
    coefficients: np.ndarray
    seed: int
    temperature: float
    top_p: float
    max_new_tokens: int
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    min_tokens: int = 0
    ignore_eos: bool = False
    alternatives: int | None = None
    schema: JsonSchema | None = None


@dataclass(frozen=True, eq=False)
class GivenText:
    """A text whose log-probabilities are asked for.

    Attributes:
        ids: token ids, of which those from `begin` (at least 1) on are scored, each given all before it.
        top: likeliest tokens to give for each place.
    """

    key: Hashable
    ids: Sequence[int]
    begin: int
    coefficients: np.ndarray
    top: int


@dataclass(frozen=True)
class Token:
    """One token of a row; `end` is "stop" at an end token, "length" at the limit, else None."""

    key: Hashable
    id: int
    end: str | None
    likelihood: Likelihood | None = None


@dataclass(eq=False)
class Row:
    """A running row.

    Attributes:
        json: its place in its schema; None for a row without one.
        made: tokens of its answer so far.
    """

    request: Request
    noise: Noise
    json: JsonAnswer | None
    made: list[int] = field(default_factory=list)


@dataclass(eq=False)
class RunningBatch:
    """Rows in the middle of their answers. One thread owns it and the model."""

    policy: SoupModel
    _rows: list[Row] = field(default_factory=list, init=False)
    # Keys and values [row, head, column, feature] of every layer, and a mask of the row's columns, [row, column].
    _cache: DynamicCache | None = field(default=None, init=False)
    _mask: torch.Tensor | None = field(default=None, init=False)
    # True if the model's mixture is that of the running rows.
    _mixed: bool = field(default=False, init=False)

    def __post_init__(self):
        model, tokenizer = self.policy.model, self.policy.tokenizer
        if "position_ids" not in inspect.signature(model.forward).parameters:
            raise ValueError(f"{type(model).__name__} takes no position_ids: its rows cannot start at different times")
        # A model with a recurrent state would run, but answer nonsense.
        kinds = {type(layer) for layer in DynamicCache(config=model.config).layers}
        if other := sorted(kind.__name__ for kind in kinds - {DynamicLayer, DynamicSlidingWindowLayer}):
            raise ValueError(
                f"{type(model).__name__} caches more than keys and values ({', '.join(other)}): its rows cannot join "
                "and leave a batch; merge the soup for one preference and serve that elsewhere"
            )
        self._ends = end_tokens(model, tokenizer)
        self._never = sorted(set(never_sampled(tokenizer)) - self._ends)

    def __len__(self) -> int:
        return len(self._rows)

    @torch.inference_mode()
    def join(self, requests: Sequence[Request]) -> list[Token]:
        """Add rows and return the first token of each."""
        rows = [Row(request, Noise(request.seed), request.schema and request.schema.start()) for request in requests]
        ids, mask = padded([request.prompt for request in requests], 0, self.policy.model.device, left=True)
        self._mix(requests)
        cache = DynamicCache()
        logits = self._forward(ids, mask, positions(mask), cache)
        self._append(rows, cache, mask)
        return self._leave(self._choose(rows, logits))

    @torch.inference_mode()
    def step(self) -> list[Token]:
        """Return the next token of every running row; rows that end leave."""
        if not self._rows:
            return []
        if not self._mixed:
            self._mix([row.request for row in self._rows])
            self._mixed = True
        ids = torch.tensor([[row.made[-1]] for row in self._rows], device=self._mask.device)
        position = self._mask.sum(1, keepdim=True)
        self._mask = pad(self._mask, (0, 1), value=1)
        logits = self._forward(ids, self._mask, position, self._cache)
        return self._leave(self._choose(self._rows, logits))

    @torch.inference_mode()
    def score(self, texts: Sequence[GivenText]) -> list[list[Likelihood]]:
        """Return the log-probabilities of given texts, each at its coefficients, in one forward pass."""
        scored = max(len(text.ids) - text.begin for text in texts)
        ids, mask = padded([text.ids for text in texts], 0, self.policy.model.device, left=True)
        self._mix(texts)
        logits = self._forward(ids, mask, positions(mask), None, scored + 1)
        # Row by row, since the probabilities of a whole vocabulary are the largest tensor here.
        return [
            likelihoods(row[-1 - (len(text.ids) - text.begin) : -1], text.ids[text.begin :], text.top)
            for row, text in zip(logits, texts, strict=True)
        ]

    def drop(self, keys: Collection[Hashable]) -> None:
        """Drop rows before their end; unknown keys are ignored."""
        self._keep([i for i, row in enumerate(self._rows) if row.request.key not in keys])

    def _mix(self, rows: Sequence[Request | GivenText]) -> None:
        self.policy.mixer.set(torch.tensor(np.stack([row.coefficients for row in rows])))
        self._mixed = False

    def _forward(self, ids, mask, positions, cache: DynamicCache | None, last: int = 1) -> torch.Tensor:
        """Return the logits of the `last` columns, [row, column, vocabulary]; the cache grows."""
        return self.policy.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=cache is not None,
            logits_to_keep=last,
        ).logits

    def _choose(self, rows: list[Row], logits: torch.Tensor) -> list[Token]:
        logits = logits[:, -1].float()
        wanted = [i for i, row in enumerate(rows) if row.request.alternatives is not None]
        plain = logits[wanted]
        ids = choose(logits, rows, self._never, self._ends)
        likely = {
            i: likelihoods(row[None], [ids[i]], rows[i].request.alternatives)[0]
            for i, row in zip(wanted, plain, strict=True)
        }
        tokens = []
        for i, (row, token) in enumerate(zip(rows, ids, strict=True)):
            row.made.append(token)
            if row.json:
                row.json.take(token)
            ended = token in self._ends
            full = ended or len(row.made) >= row.request.max_new_tokens
            # JSON that llguidance gave up on is cut off, like an answer at its limit.
            end = "stop" if ended and (row.json is None or row.json.complete) else "length" if full else None
            tokens.append(Token(row.request.key, token, end, likely.get(i)))
        return tokens

    def _append(self, rows: list[Row], cache: DynamicCache, mask: torch.Tensor) -> None:
        """Add rows and their cache to the running ones; the shorter side is padded on the left."""
        if self._rows:
            short, width = self._mask.shape[1], mask.shape[1]
            left, right = max(width - short, 0), max(short - width, 0)
            self._mask = torch.cat([pad(self._mask, (left, 0)), pad(mask, (right, 0))])
            for layer, new in zip(self._cache.layers, cache.layers, strict=True):
                layer.keys = torch.cat([pad(layer.keys, (0, 0, left, 0)), pad(new.keys, (0, 0, right, 0))])
                layer.values = torch.cat([pad(layer.values, (0, 0, left, 0)), pad(new.values, (0, 0, right, 0))])
        else:
            self._cache, self._mask = cache, mask
        self._rows = [*self._rows, *rows]

    def _leave(self, tokens: list[Token]) -> list[Token]:
        self.drop({token.key for token in tokens if token.end})
        return tokens

    def _keep(self, kept: list[int]) -> None:
        if len(kept) == len(self._rows):
            return
        self._rows = [self._rows[i] for i in kept]
        self._mixed = False
        if not kept:
            self._cache = self._mask = None
            return
        mask = self._mask[kept]
        # Drop columns on the left that belonged only to rows that have left.
        first = int(mask.any(0).int().argmax())
        self._mask = mask[:, first:]
        for layer in self._cache.layers:
            layer.keys, layer.values = layer.keys[kept, :, first:], layer.values[kept, :, first:]


def end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Return the tokens that end an answer: the tokenizer's, and those of the model's generation settings."""
    ends = model.generation_config.eos_token_id
    more = ends if isinstance(ends, list) else [ends]
    return {token for token in (tokenizer.eos_token_id, *more) if token is not None}
