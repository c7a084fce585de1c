"""The bodies that clients send: OpenAI's, plus a preference."""

from typing import Annotated, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    StringConstraints,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from bonesoup.serving.strict import Nested, Strict, one_of, refused, whole_characters

# Every new token is compared with every prefix of it.
Stop = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Stops = Annotated[
    Stop | Annotated[list[Stop], Field(max_length=4)] | None,
    one_of("stop must be a text, or a list of at most 4 texts, each of 1 to 256 characters"),
]
Preference = Annotated[
    Annotated[dict[str, float] | dict[str, str] | str, Field(union_mode="left_to_right")],
    one_of(
        'preference must be a mapping of objectives to weights, such as {"helpful": 0.7, "harmless": 0.3}, an outcome '
        'such as {"harmless": ">= 0.5", "maximize": "helpful"}, or the name of a preference'
    ),
]
Adapters = Annotated[
    dict[str, FiniteFloat] | None,
    one_of('adapters must be a mapping of adapters to finite weights, such as {"calm": 1.4, "bold": -0.4}'),
]
Text = Annotated[str, AfterValidator(whole_characters)]
Token = Annotated[int, Field(ge=0, lt=2**31)]
Tokens = Annotated[list[Token], Field(min_length=1)]
Count = Annotated[int, Field(ge=1)]
Temperature = Annotated[float, Field(ge=0, le=2)]
TopP = Annotated[float, Field(gt=0, le=1)]
TopK = Annotated[int, Field(ge=-1)]
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]


class StreamOptions(Nested):
    """Options of a streamed answer; `include_obfuscation`, which OpenAI's clients send, changes nothing here."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class Steered(Strict):
    """The model, and the preference at which it is asked."""

    model: str = Field(description="as /v1/models lists it; NAME@helpful:0.7+harmless:0.3 carries a preference")
    preference: Preference | None = Field(
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

    temperature: Temperature | None = Field(None, description="0 takes the likeliest token")
    top_p: TopP | None = None
    top_k: TopK | None = Field(None, description="0 and -1 are all")
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    repetition_penalty: Annotated[float, Field(ge=0.01, le=10)] | None = None
    min_tokens: Annotated[int, Field(ge=0)] | None = None
    ignore_eos: bool | None = None
    max_tokens: Annotated[int, Field(ge=0)] | None = None
    n: Annotated[int, Field(ge=1, le=8)] | None = Field(None, description="answers; answer i has the seed + i")
    seed: Seed | None = None
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
    def limit_field(self) -> str:
        """Return the name of the field that `limit` came from."""
        return "max_tokens"


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


Messages = Annotated[list[Message], Field(min_length=1)]


class NamedSchema(Nested):
    """A JSON schema as OpenAI's clients send it; answers follow it whether `strict` or not."""

    name: str
    schema_: dict = Field(alias="schema")
    description: str | None = None
    strict: bool | None = None


class PlainText(Nested):
    """The usual form of an answer."""

    type: Literal["text"]


class JsonOf(Nested):
    """An answer that is JSON of a schema."""

    type: Literal["json_schema"]
    json_schema: NamedSchema


ResponseFormat = Annotated[
    Annotated[PlainText | JsonOf, Field(discriminator="type")] | None,
    one_of(
        'response_format must be {"type": "text"} or {"type": "json_schema", "json_schema": {"name": ..., "schema": '
        "{...}}}, next to the schema at most with description and strict"
    ),
]


class ChatBody(Sampling):
    """POST /v1/chat/completions."""

    text_field: ClassVar[str] = "messages"
    messages: Messages
    response_format: ResponseFormat = None
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None

    @model_validator(mode="after")
    def _asks_for_logprobs(self):
        if self.top_logprobs and not self.logprobs:
            raise refused("top_logprobs", "top_logprobs needs logprobs: true")
        return self

    @model_validator(mode="after")
    def _ends_with_its_json(self):
        given = [name for name in ("min_tokens", "ignore_eos", "stop") if getattr(self, name)]
        if self.answer_schema is not None and given:
            raise refused(given[0], f"{given[0]} cannot go with a JSON schema, which decides where the answer ends")
        return self

    @property
    def answer_schema(self) -> dict | None:
        """Return the JSON schema that the answer must follow; None for text."""
        return self.response_format.json_schema.schema_ if isinstance(self.response_format, JsonOf) else None

    @property
    def limit(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @property
    def limit_field(self) -> str:
        return "max_completion_tokens" if self.max_completion_tokens else "max_tokens"

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

    text_field: ClassVar[str] = "prompt"
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

    messages: Messages | None = None
    prompt: Annotated[Text | Tokens | None, one_of("prompt must be text or token ids")] = None
    answers: Annotated[list[Annotated[str, StringConstraints(min_length=1)]], Field(min_length=1, max_length=64)]
    end: bool | None = Field(None, description="count the end token too; by default after messages, not after a prompt")
    logprobs: bool | None = Field(None, description="give each token's log-probability too")

    @model_validator(mode="after")
    def _one_context(self):
        if (self.messages is None) == (self.prompt is None):
            raise refused("messages", "messages or prompt: give one of them")
        return self


class RewardsBody(Strict):
    """POST /v1/soup/rewards: what the rewards of the run say about given answers."""

    model: str | None = None
    messages: Messages
    answers: Annotated[list[Text], Field(min_length=1, max_length=128)]


class TokenizeBody(Strict):
    """POST /tokenize."""

    model: str | None = None
    prompt: Text | None = None
    messages: Messages | None = None

    @model_validator(mode="after")
    def _one_text(self):
        if (self.messages is None) == (self.prompt is None):
            raise refused("prompt", "prompt or messages: give one of them")
        return self


class DetokenizeBody(Strict):
    """POST /detokenize."""

    model: str | None = None
    tokens: list[Token]
