"""The bodies that the server answers with, as /openapi.json describes them."""

from typing import Literal

from pydantic import BaseModel

Weights = dict[str, float]


class Usage(BaseModel):
    """Tokens of a request."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Outcome(BaseModel):
    """The scores measured at the preference chosen for an outcome; see `evaluation.outcomes.Promise`."""

    asked: str
    mean: Weights
    floor: dict[str, float | None]
    unit: str
    confidence: float
    prompts: int


class Steered(BaseModel):
    """The steering of an answer to a request, or to one of its preferences."""

    preference: Weights | None = None
    coefficients: Weights | None = None
    outcome: Outcome | None = None


class Completed(Steered):
    """The fields that both kinds of completion share."""

    id: str
    created: int
    model: str
    usage: Usage
    note: str | None = None


class Likely(BaseModel):
    """A token and its log-probability in nats."""

    token: str
    bytes: list[int] | None
    logprob: float


class LikelyToken(Likely):
    """A sampled token and the likeliest in its place."""

    top_logprobs: list[Likely]


class ChatLogprobs(BaseModel):
    """Log-probabilities of a chat's answer."""

    content: list[LikelyToken]
    refusal: None


class ReplyMessage(BaseModel):
    """The assistant's turn."""

    role: Literal["assistant"]
    content: str


class ChatChoice(Steered):
    """One answer of a chat."""

    index: int
    message: ReplyMessage
    logprobs: ChatLogprobs | None
    finish_reason: Literal["stop", "length"]


class ChatCompletion(Completed):
    """The answer to /v1/chat/completions; streamed, its chunks have `delta` for `message`."""

    object: Literal["chat.completion"]
    choices: list[ChatChoice]


class TextLogprobs(BaseModel):
    """Log-probabilities of a text, token by token; the first token of an echoed prompt has none."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None
    text_offset: list[int]


class TextChoice(Steered):
    """One continuation."""

    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: Literal["stop", "length"]


class TextCompletion(Completed):
    """The answer to /v1/completions."""

    object: Literal["text_completion"]
    choices: list[TextChoice]


class Model(Steered):
    """A model as /v1/models lists it.

    `context_length` counts prompt and answer together; `system_messages` says whether the template knows them, they
    are folded into the user's turn, or they are refused. Without `preference` the model is the adapters mixed with
    `coefficients`.
    """

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    version: str | None
    objectives: list[str]
    preferences: list[str]
    adapters: list[str]
    coefficients: Weights
    context_length: int | None
    max_model_len: int | None
    max_prompt_tokens: int
    max_completion_tokens: int
    system_messages: Literal["native", "fold", "refuse"]


class Models(BaseModel):
    """All models, named presets included."""

    object: Literal["list"]
    data: list[Model]


class Scored(Steered):
    """One answer at one preference."""

    index: int
    answer: int
    coefficients: Weights
    logprob: float
    tokens: int
    logprobs: list[LikelyToken] | None


class Scores(BaseModel):
    """Every answer at every preference; `likeliest` maps an answer's place to the index of its best entry."""

    object: Literal["list"]
    model: str
    data: list[Scored]
    likeliest: list[int]
    usage: Usage


class Rewarded(BaseModel):
    """Scores [answer][objective] by unit, in standard deviations of the SFT model."""

    objectives: list[str]
    scores: dict[str, list[list[float]]]


class TokenIds(BaseModel):
    """A text's tokens."""

    tokens: list[int]
    count: int
    max_model_len: int | None


class TokenizerInfo(BaseModel):
    """The control tokens and the chat template, for clients without a tokenizer."""

    bos_token: str | None
    eos_token: str | None
    pad_token: str | None
    unk_token: str | None
    chat_template: str | None
    model_max_length: int | None


class Text(BaseModel):
    """The text of tokens."""

    prompt: str


class Health(BaseModel):
    """The state of the engine."""

    status: Literal["ok", "failed"]
    model: str
    version: str | None
    running: int
    waiting: int
    fault: str | None = None


class Generation(BaseModel):
    """Defaults and bounds of an answer."""

    temperature: float
    max_new_tokens: int
    max_prompt_tokens: int


class SoupReply(BaseModel):
    """The soup: objectives, policies and the weights they were trained for, preferences, and the measured front."""

    name: str
    version: str | None
    objectives: list[str]
    beta: float | None
    mapping: str
    policies: dict[str, Weights]
    default: Weights
    preferences: dict[str, Weights]
    presets: dict[str, Weights]
    grid: list[Weights]
    examples: list[str]
    methods: list[str]
    titles: dict[str, str]
    models: dict[str, str]
    rewards: bool
    system_messages: Literal["native", "fold", "refuse"]
    generation: Generation
    front: dict | None


class Expected(BaseModel):
    """Scores by objective: measured at this preference, interpolated, or at the nearest one."""

    mean: list[float]
    low: list[float]
    high: list[float]
    # `from` is a keyword of Python.
    model_config = {"extra": "allow"}


class Meaning(Steered):
    """A preference's coefficients and the scores to expect."""

    coefficients: Weights
    sum: float
    l1: float
    expected: Expected | None
