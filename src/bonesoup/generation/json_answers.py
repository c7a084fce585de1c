"""Answers that are JSON of a schema: the tokens that a row may take next, by llguidance (the extra `json`).

The mask of a row changes that row's logits alone, so rows next to it in a batch answer as they would without it.
"""

import json
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

# Schemas that are kept compiled.
KEPT = 64
# Characters without which there is no JSON.
MARKS = '{}[]":,'
# White space between values, compact or indented: with any, a model that strays writes blank lines to its limit.
SPACE = r" ?|\n {0,32}"


class JsonVocabulary:
    """A model's vocabulary, prepared for masks; half a second for a large one."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, size: int, ends: Collection[int]):
        """Prepare a vocabulary.

        Args:
            size: tokens that the model has logits for.
            ends: tokens that end an answer.

        Raises:
            ValueError: llguidance is not installed, or cannot use the tokenizer, as if its tokens are whole words.
        """
        try:
            import llguidance.hf
        except ModuleNotFoundError:
            raise ValueError("JSON schemas need llguidance on the server: pip install 'bonesoup[json]'") from None
        try:
            self.tokens: LLTokenizer = llguidance.hf.from_tokenizer(tokenizer, n_vocab=size, eos_token=sorted(ends))
        except ValueError as error:
            missing = [mark for mark in MARKS if mark not in tokenizer.get_vocab()]
            if missing:
                raise ValueError(
                    f"this model cannot write JSON: its vocabulary has no token for {' '.join(missing)}"
                ) from None
            raise ValueError(f"llguidance cannot use this model's tokenizer for JSON: {error}") from None
        self.size = size
        self.ends = frozenset(ends)
        self._grammar = lru_cache(KEPT)(self._compile)

    def schema(self, schema: dict) -> "JsonSchema":
        """Compile a schema.

        Raises:
            ValueError: it is wrong, or uses a keyword that llguidance does not know.
        """
        return JsonSchema(self, self._grammar(json.dumps(schema)))

    def _compile(self, schema: str) -> str:
        from llguidance import LLMatcher

        try:
            grammar = LLMatcher.grammar_from_json_schema(schema, overrides={"whitespace_pattern": SPACE})
            fault = LLMatcher.validate_grammar(grammar, self.tokens)
        except ValueError as error:
            # It reads nesting up to a fixed depth.
            fault = str(error)
        if fault:
            raise ValueError(f"the schema is wrong or not supported: {fault}")
        return grammar


@dataclass(frozen=True, eq=False)
class JsonSchema:
    """A schema that answers must follow."""

    vocabulary: JsonVocabulary
    grammar: str

    def start(self) -> "JsonAnswer":
        """Begin an answer."""
        from llguidance import LLMatcher

        return JsonAnswer(self.vocabulary, LLMatcher(self.vocabulary.tokens, self.grammar))


@dataclass(frozen=True, eq=False)
class JsonAnswer:
    """One answer on its way."""

    vocabulary: JsonVocabulary
    matcher: "LLMatcher"

    def allowed(self) -> torch.Tensor:
        """Return the tokens that can come next, bool [vocabulary].

        An end token comes only after a complete value, or if llguidance gives up, for example at its limit on the size
        of a grammar's state.
        """
        bits = np.unpackbits(np.frombuffer(self.matcher.compute_bitmask(), np.uint8), bitorder="little")
        return torch.from_numpy(bits[: self.vocabulary.size].astype(bool))

    @property
    def complete(self) -> bool:
        """Return True if the text so far is JSON of the schema."""
        return self.matcher.is_accepting()

    def take(self, token: int) -> None:
        """Add a token to the answer."""
        if token not in self.vocabulary.ends:
            self.matcher.consume_token(token)
