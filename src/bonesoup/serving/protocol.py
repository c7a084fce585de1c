"""The bodies that clients send: OpenAI's, plus a preference.

What would change an answer and is not supported is refused by name; what would not (user, metadata, store) is taken
and ignored. A penalty or a bias at its default changes nothing and passes.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from bonesoup.method.preferences import parse_weights

Weights = dict[str, float]
# Every new token is held against every beginning of it.
Stop = Annotated[str, Field(min_length=1, max_length=256)]
# Their defaults change nothing; other values would, and no row of the batch honours them.
NEUTRAL = {
    "frequency_penalty": (0, None),
    "presence_penalty": (0, None),
    "logit_bias": ({}, None),
    "logprobs": (False, None, 0),
    "top_logprobs": (0, None),
    "best_of": (1, None),
    "echo": (False, None),
    "suffix": ("", None),
    "tools": ([], None),
    "functions": ([], None),
    "tool_choice": ("none", "auto", None),
    "function_call": ("none", "auto", None),
    "response_format": ({"type": "text"}, None),
    "modalities": (["text"], None),
    "audio": (None,),
    "top_k": (0, -1, None),
    "repetition_penalty": (1, None),
    "min_p": (0, None),
}


class StreamOptions(BaseModel):
    """Of a streamed answer."""

    include_usage: bool | None = None


class Sampling(BaseModel):
    """What both kinds of completion share."""

    model_config = ConfigDict(extra="allow")

    model: str = Field(description="as /v1/models lists it; NAME@helpful=0.7,harmless=0.3 carries a preference")
    preference: Weights | str | None = Field(
        None, description="weights that sum to 1 over all objectives, or the name of a preference; else the default"
    )
    temperature: Annotated[float, Field(ge=0, le=2)] | None = Field(None, description="0 takes the likeliest token")
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    n: Annotated[int, Field(ge=1, le=8)] | None = Field(None, description="answers; answer i has the seed + i")
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=4)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @model_validator(mode="after")
    def _supported(self):
        if self.stream_options and not self.stream:
            raise ValueError("stream_options needs stream")
        for name, value in (self.model_extra or {}).items():
            if name in NEUTRAL and value not in NEUTRAL[name]:
                raise ValueError(f"{name} is not supported: leave it out")
        return self

    @property
    def stops(self) -> list[str]:
        return [self.stop] if isinstance(self.stop, str) else self.stop or []

    @property
    def limit(self) -> int | None:
        return self.max_tokens


def whole_characters(text: str) -> str:
    """JSON can write half of a surrogate pair, which is no character and cannot be tokenised."""
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("the text holds half of a surrogate pair")
    return text


class Part(BaseModel):
    """A part of a message; only text is understood."""

    type: Literal["text"]
    text: str


class Message(BaseModel):
    """One turn of a conversation."""

    model_config = ConfigDict(extra="allow")

    role: Literal["developer", "system", "user", "assistant"]
    content: str | list[Part]

    @field_validator("content")
    @classmethod
    def _text(cls, content):
        text = content if isinstance(content, str) else "".join(part.text for part in content)
        if not text.strip():
            raise ValueError("a message must have text")
        return whole_characters(text)


class ChatBody(Sampling):
    """POST /v1/chat/completions."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None

    @property
    def limit(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens


class CompletionBody(Sampling):
    """POST /v1/completions."""

    prompt: str | Annotated[list[str], Field(min_length=1, max_length=64)]

    @field_validator("prompt")
    @classmethod
    def _text(cls, prompt):
        for text in [prompt] if isinstance(prompt, str) else prompt:
            whole_characters(text)
        return prompt

    @property
    def prompts(self) -> list[str]:
        return [self.prompt] if isinstance(self.prompt, str) else self.prompt


def split_model(model: str) -> tuple[str, str | None]:
    """'NAME@helpful=0.7,harmless=0.3' -> ('NAME', 'helpful=0.7,harmless=0.3')."""
    name, at, preference = model.partition("@")
    return name, preference if at else None


def weights(preference: Weights | str, named: dict[str, Weights]) -> Weights:
    """A mapping of weights, from one, from a name, or from 'helpful=0.7,harmless=0.3'.

    Raises:
        ValueError: neither a known name nor weights.
    """
    if not isinstance(preference, str):
        return preference
    return named[preference] if preference in named else parse_weights(preference, sorted(named))
