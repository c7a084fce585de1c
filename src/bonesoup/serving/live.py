"""The source and engine that answer now, and the rules for a request's prompt and length."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bonesoup.generation.batch import end_tokens
from bonesoup.generation.json_answers import JsonSchema, JsonVocabulary
from bonesoup.serving.engine import Engine
from bonesoup.serving.errors import ApiError
from bonesoup.serving.protocol import Message
from bonesoup.serving.source import Source
from bonesoup.serving.steering import Choice
from bonesoup.serving.text import chat_tokens, fold_system, knows_system, plain_tokens


@dataclass(frozen=True)
class Bounds:
    """The limits of a request.

    Attributes:
        prompt: most tokens of a prompt.
        answer: most tokens of an answer.
        overlong: "refuse" an answer that does not fit, or "cut" it to the tokens that do, with a note.
        system: "fold" system messages into the user's turn if the template has no place for them, or "refuse" them.
    """

    prompt: int
    answer: int
    overlong: str = "refuse"
    system: str = "fold"


@dataclass(frozen=True, eq=False)
class Live:
    """A source and the engine that answers for it."""

    source: Source
    engine: Engine
    bounds: Bounds

    @property
    def tokenizer(self):
        """Return the model's tokenizer."""
        return self.engine.policy.tokenizer

    @property
    def context(self) -> int | None:
        """Return the most tokens of prompt and answer together; None for a model without a fixed context."""
        return getattr(self.engine.policy.model.config, "max_position_embeddings", None)

    @property
    def system_messages(self) -> str:
        """Return "native" if the template knows system messages, else how they are handled."""
        return "native" if knows_system(self.tokenizer) else self.bounds.system

    def vector(self, choice: Choice) -> np.ndarray:
        """Return the coefficients over all policies in memory, lambda [policy]."""
        return self.engine.policy.spread(list(choice.coefficients.values()), choice.soup)

    @cached_property
    def _json(self) -> JsonVocabulary:
        model = self.engine.policy.model
        return JsonVocabulary(self.tokenizer, model.config.vocab_size, end_tokens(model, self.tokenizer))

    def json_schema(self, schema: dict) -> JsonSchema:
        """Compile a schema for this model; the first takes half a second for a large vocabulary.

        Raises:
            ApiError: 400, the server, the model or llguidance cannot do it.
        """
        try:
            return self._json.schema(schema)
        except ValueError as error:
            raise ApiError(400, str(error), "response_format", "not_supported") from None

    def chat_prompt(self, messages: Sequence[Message], field: str = "messages") -> list[int]:
        """Tokenise a conversation, which the request holds in `field`.

        Raises:
            ApiError: 400, the template has no place for a role, or refuses the conversation.
        """
        roles = ["system" if message.role == "developer" else message.role for message in messages]
        turns = [{"role": role, "content": turn.content} for role, turn in zip(roles, messages, strict=True)]
        if "system" in roles and (handling := self.system_messages) != "native":
            if handling == "refuse":
                text = "this model knows no system messages, only user and assistant (--system fold accepts them)"
                raise ApiError(400, text, f"{field}.{roles.index('system')}.role")
            turns = fold_system(turns)
        try:
            return chat_tokens(self.tokenizer, turns)
        except ValueError as error:
            raise ApiError(400, str(error), field) from None

    def plain_prompt(self, prompt: str | list[int], field: str = "prompt") -> list[int]:
        """Tokenise a text, or check token ids, which the request holds in `field`.

        Raises:
            ApiError: 400, no tokens, or tokens that the model does not have.
        """
        if isinstance(prompt, str):
            if ids := plain_tokens(self.tokenizer, prompt):
                return ids
            raise ApiError(400, f"{field} has no tokens", field)
        size = self.engine.policy.model.config.vocab_size
        if unknown := [token for token in prompt if token >= size]:
            raise ApiError(400, f"{field}: token {unknown[0]} is unknown, the model has {size}", field)
        return prompt

    def limit(self, prompt: int, asked: int | None, param: str, limit_field: str) -> tuple[int, str | None]:
        """Decide how many tokens an answer may have, and say so if they are fewer than asked for.

        Args:
            prompt: tokens of the prompt.
            asked: tokens asked for; None takes the version's usual number, as far as it fits.
            param: the field that holds the prompt.
            limit_field: the field that holds `asked`.

        Raises:
            ApiError: 400, the prompt or the answer does not fit.
        """
        code = "context_length_exceeded"
        if prompt > self.bounds.prompt:
            raise ApiError(400, f"the prompt has {prompt} tokens, this server takes {self.bounds.prompt}", param, code)
        answer_limit = self.bounds.answer if self.context is None else min(self.bounds.answer, self.context - prompt)
        if asked is None:
            asked, overlong = min(self.source.max_new_tokens, max(answer_limit, 1)), "refuse"
        else:
            overlong = self.bounds.overlong
        if asked <= answer_limit:
            return asked, None
        if overlong == "cut" and answer_limit > 0:
            return answer_limit, f"{limit_field} was cut from {asked} to {answer_limit}, which is all that fits"
        if asked > self.bounds.answer:
            text = f"{limit_field} is {asked}, this server gives at most {self.bounds.answer}"
            raise ApiError(400, text, limit_field, code)
        text = (
            f"the prompt has {prompt} tokens; with {asked} new ones it does not fit into the context of {self.context}"
        )
        raise ApiError(400, f"{text}: shorten it, or lower {limit_field}", param, code)

    def check_text(self, tokens: int, param: str) -> None:
        """Refuse a given text that does not fit.

        Raises:
            ApiError: 400.
        """
        most = min(self.context or 2**31, self.bounds.prompt + self.bounds.answer)
        if tokens > most:
            text = f"{param} has {tokens} tokens with its prompt, but at most {most} fit"
            raise ApiError(400, text, param, "context_length_exceeded")
