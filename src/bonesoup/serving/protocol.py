"""The bodies that clients send: OpenAI's, plus a preference.

A field is honoured, or changes nothing and is ignored (IGNORED), or is refused by name. Fields that would change an
answer but are not supported (UNSUPPORTED) are accepted at values that leave it unchanged.
"""

from difflib import get_close_matches
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    StringConstraints,
    ValidationError,
    WrapValidator,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

IGNORED = frozenset(
    ["user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"]
)
# With the values that change nothing.
UNSUPPORTED = {
    "logit_bias": ({}, None),
    "best_of": (1, None),
    "suffix": ("", None),
    "tools": ([], None),
    "functions": ([], None),
    "tool_choice": ("none", "auto", None),
    "function_call": ("none", "auto", None),
    "parallel_tool_calls": (True, False, None),
    "response_format": ({"type": "text"}, None),
    "modalities": (["text"], None),
    "audio": (None,),
    "reasoning_effort": ("none", None),
    "length_penalty": (1, None),
    "typical_p": (1, None),
    "num_beams": (1, None),
    "use_beam_search": (False, None),
    "stop_token_ids": ([], None),
    "bad_words": ([], None),
    "mirostat": (0, None),
    "prompt_logprobs": (None,),
    "add_generation_prompt": (True, None),
    "add_special_tokens": (False, None),
    "continue_final_message": (False, None),
    "chat_template": (None,),
    "truncate_prompt_tokens": (None,),
    "skip_special_tokens": (True, None),
    "include_stop_str_in_output": (False, None),
}
# Fields of other servers, and ours for them.
RENAMED = {
    "max_new_tokens": "max_tokens",
    "num_predict": "max_tokens",
    "n_predict": "max_tokens",
    "repeat_penalty": "repetition_penalty",
    "stop_sequences": "stop",
}


def one_of(expected: str):
    """Replace the complaints about each form of a field that has several by one sentence."""

    def checked(value, handler):
        try:
            return handler(value)
        except ValidationError:
            raise PydanticCustomError("refused", expected) from None

    return WrapValidator(checked)


def refused(param: str, text: str, kind: str = "refused") -> PydanticCustomError:
    """Make the error that names the field `param`; braces of a client's text are not placeholders."""
    return PydanticCustomError(kind, "{text}", {"param": param, "text": text})


def whole_characters(text: str) -> str:
    """Refuse half of a surrogate pair: JSON can write it, but it is no character and cannot be tokenised."""
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise PydanticCustomError("refused", "the text holds half of a surrogate pair")
    return text


class Strict(BaseModel):
    """A body whose unknown fields are refused by name."""

    model_config = ConfigDict(extra="allow")

    @model_validator(mode="after")
    def _no_unknown_fields(self):
        for name, value in (self.model_extra or {}).items():
            if name in IGNORED or name in UNSUPPORTED and any(value == neutral for neutral in UNSUPPORTED[name]):
                continue
            if name in UNSUPPORTED:
                raise refused(name, f"{name} is not supported: leave it out", "not_supported")
            known = [*type(self).model_fields, *IGNORED]
            near = RENAMED.get(name) or next(iter(get_close_matches(name, known, 1, 0.75)), None)
            hint = f": did you mean {near}?" if near else ": leave it out"
            raise refused(
                name, f"unknown field {name if len(name) <= 60 else name[:57] + '...'}{hint}", "unknown_field"
            )
        return self


# Every new token is compared with every prefix of it.
Stop = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Stops = Annotated[
    Stop | Annotated[list[Stop], Field(max_length=4)] | None,
    one_of("stop must be a text, or a list of at most 4 texts, each of 1 to 256 characters"),
]
Preference = Annotated[
    Annotated[dict[str, float] | dict[str, str] | str | None, Field(union_mode="left_to_right")],
    one_of(
        'preference must be a mapping of objectives to weights, such as {"helpful": 0.7, "harmless": 0.3}, an outcome '
        'such as {"harmless": ">= 0.5", "maximize": "helpful"}, or the name of a preference'
    ),
]
Adapters = Annotated[
    dict[str, FiniteFloat] | None,
    one_of('adapters must be a mapping of adapters to finite weights, such as {"calm": 1.4, "bold": -0.4}'),
]
Token = Annotated[int, Field(ge=0, lt=2**31)]
Tokens = Annotated[list[Token], Field(min_length=1)]
Count = Annotated[int, Field(ge=1)]


class StreamOptions(BaseModel):
    """Options of a streamed answer."""

    include_usage: bool | None = None


class Steered(Strict):
    """The model, and the preference at which it is asked."""

    model: str = Field(description="as /v1/models lists it; NAME@helpful:0.7+harmless:0.3 carries a preference")
    preference: Preference = Field(
        None,
        description="weights that sum to 1 over all objectives; or an outcome, lower bounds on mean scores and the "
        "objective to maximize; or a preference's name; by default the version's",
    )
    adapters: Adapters = Field(
        None, description="instead of a preference: weights of adapters, of any sign; those not named have weight 0"
    )
    preferences: Annotated[list[Preference], Field(min_length=1, max_length=64)] | None = Field(
        None, description="instead of `preference`: answer at each of these, in one batch and from the same noise"
    )


class Sampling(Steered):
    """The fields that both kinds of completion share."""

    temperature: Annotated[float, Field(ge=0, le=2)] | None = Field(None, description="0 takes the likeliest token")
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1)] | None = Field(None, description="0 and -1 are all")
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    repetition_penalty: Annotated[float, Field(ge=0.01, le=10)] | None = None
    min_tokens: Annotated[int, Field(ge=0)] | None = None
    ignore_eos: bool | None = None
    max_tokens: Annotated[int, Field(ge=0)] | None = None
    n: Annotated[int, Field(ge=1, le=8)] | None = Field(None, description="answers; answer i has the seed + i")
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: Stops = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @model_validator(mode="after")
    def _consistent(self):
        if self.stream_options and not self.stream:
            raise refused("stream_options", "stream_options needs stream")
        if self.max_tokens == 0 and not getattr(self, "echo", None):
            raise refused("max_tokens", "max_tokens must be 1 or more; only with echo may it be 0")
        return self

    @property
    def stops(self) -> list[str]:
        """Return the stop sequences."""
        return [self.stop] if isinstance(self.stop, str) else self.stop or []

    @property
    def limit(self) -> int | None:
        """Return the most tokens an answer may have; None if the request does not say."""
        return self.max_tokens

    @property
    def wants_usage(self) -> bool:
        """Return True if a stream ends with the number of tokens."""
        return bool(self.stream_options and self.stream_options.include_usage)


class Part(BaseModel):
    """A part of a message; only text is understood. The last two types are those of /v1/responses."""

    type: Literal["text", "input_text", "output_text"]
    text: str


Content = Annotated[
    str | list[Part] | None,
    one_of("content must be text, or a list of parts of type text: images and audio are not taken"),
]


class Turn(BaseModel):
    """A turn of a conversation; fields that hold nothing may come with it, as in the answers that clients keep."""

    model_config = ConfigDict(extra="allow")

    role: Literal["developer", "system", "user", "assistant"]
    content: Content = None

    @model_validator(mode="after")
    def _nothing_else(self):
        for name, value in (self.model_extra or {}).items():
            if value not in (None, [], {}):
                raise refused("", f"a message's {name[:60]} is not supported: leave it out", "not_supported")
        return self


class Message(Turn):
    """One turn of a chat."""

    # A turn without content is as bad as an empty one.
    model_config = ConfigDict(extra="allow", validate_default=True)

    name: str | None = None

    @field_validator("content")
    @classmethod
    def _text(cls, content, info):
        text = content if isinstance(content, str) else "".join(part.text for part in content or [])
        # An answer that ended immediately is an empty turn in the history.
        if not text.strip() and info.data.get("role") != "assistant":
            raise PydanticCustomError("refused", "a message must have text")
        return whole_characters(text)


class ChatBody(Sampling):
    """POST /v1/chat/completions."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None

    @model_validator(mode="after")
    def _asks_for_logprobs(self):
        if self.top_logprobs and not self.logprobs:
            raise refused("top_logprobs", "top_logprobs needs logprobs: true")
        return self

    @property
    def limit(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @property
    def alternatives(self) -> int | None:
        """Return the number of tokens listed with the sampled one's log-probability; None for no log-probabilities."""
        return (self.top_logprobs or 0) if self.logprobs else None


Prompt = Annotated[
    str
    | Annotated[list[str], Field(min_length=1, max_length=64)]
    | Tokens
    | Annotated[list[Tokens], Field(max_length=64)],
    one_of("prompt must be text, a list of at most 64 texts, token ids, or a list of at most 64 lists of token ids"),
]


class CompletionBody(Sampling):
    """POST /v1/completions."""

    prompt: Prompt
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None

    @field_validator("prompt")
    @classmethod
    def _text(cls, prompt):
        for text in [prompt] if isinstance(prompt, str) else prompt:
            if isinstance(text, str):
                whole_characters(text)
        return prompt

    @property
    def prompts(self) -> list[str | list[int]]:
        """Return the prompts, each text or token ids."""
        return [self.prompt] if isinstance(self.prompt, str) or isinstance(self.prompt[0], int) else self.prompt

    @property
    def alternatives(self) -> int | None:
        """See `ChatBody.alternatives`."""
        return self.logprobs


class ScoreBody(Steered):
    """POST /v1/score: how likely given answers are at given preferences."""

    messages: Annotated[list[Message], Field(min_length=1)] | None = None
    prompt: Annotated[str | Tokens | None, one_of("prompt must be text or token ids")] = None
    answers: Annotated[list[Annotated[str, StringConstraints(min_length=1)]], Field(min_length=1, max_length=64)]
    end: bool | None = Field(None, description="count the end token too; by default after messages, not after a prompt")
    logprobs: bool | None = Field(None, description="give each token's log-probability too")

    @model_validator(mode="after")
    def _one_context(self):
        if (self.messages is None) == (self.prompt is None):
            raise refused("messages", "messages or prompt: give one of them")
        for answer in self.answers:
            whole_characters(answer)
        return self


class RewardsBody(Strict):
    """POST /v1/soup/rewards: what the rewards of the run say about given answers."""

    model: str | None = None
    messages: Annotated[list[Message], Field(min_length=1)]
    answers: Annotated[list[str], Field(min_length=1, max_length=128)]

    @field_validator("answers")
    @classmethod
    def _text(cls, answers):
        return [whole_characters(answer) for answer in answers]


class TokenizeBody(Strict):
    """POST /tokenize."""

    model: str | None = None
    prompt: str | None = None
    messages: Annotated[list[Message], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _one_text(self):
        if (self.messages is None) == (self.prompt is None):
            raise refused("prompt", "prompt or messages: give one of them")
        if self.prompt is not None:
            whole_characters(self.prompt)
        return self


class DetokenizeBody(Strict):
    """POST /detokenize."""

    model: str | None = None
    tokens: list[Token]


class Item(Turn):
    """A turn of the input of /v1/responses; output items of earlier answers are accepted unchanged."""

    type: Literal["message"] = "message"
    id: str | None = None
    status: str | None = None


Format = Annotated[
    dict[Literal["format", "verbosity"], dict | str | None] | None,
    one_of("text must leave the format at text: structured output is not supported"),
]


class ResponseBody(Strict):
    """POST /v1/responses: converted to a chat, of which nothing is kept."""

    model: str
    preference: Preference = None
    adapters: Adapters = None
    input: Annotated[
        str | Annotated[list[Item], Field(min_length=1)],
        one_of("input must be text or a list of messages of text: tools, images and files are not taken"),
    ]
    instructions: str | None = None
    max_output_tokens: Count | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stream: bool | None = None
    text: Format = None
    truncation: Literal["disabled"] | None = None
    include: Annotated[list, Field(max_length=0)] | None = None
    background: Literal[False] | None = None
    previous_response_id: None = None
    conversation: None = None

    @model_validator(mode="after")
    def _plain(self):
        style = (self.text or {}).get("format")
        if style is not None and style != {"type": "text"}:
            raise refused("text", "text must leave the format at text: structured output is not supported")
        try:
            self.chat()
        except ValidationError as error:
            fault = error.errors()[0]
            first = bool(self.instructions) and fault["loc"][:2] == ("messages", 0)
            raise refused("instructions" if first else "input", fault["msg"]) from None
        return self

    def chat(self) -> ChatBody:
        """Convert to a chat."""
        messages = [{"role": "system", "content": self.instructions}] if self.instructions else []
        if isinstance(self.input, str):
            messages.append({"role": "user", "content": self.input})
        else:
            messages += [{"role": item.role, "content": item.content} for item in self.input]
        same = ("model", "preference", "adapters", "temperature", "top_p", "top_k", "seed")
        shared = {name: getattr(self, name) for name in same}
        return ChatBody(messages=messages, max_tokens=self.max_output_tokens, stream=self.stream, **shared)
