"""OpenAI's Responses API as a conversion of a chat: a single message comes back, and nothing is stored."""

from collections.abc import AsyncIterator
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, Field, ValidationError, model_validator

from bonesoup.serving import errors
from bonesoup.serving.completions import event
from bonesoup.serving.errors import ApiError
from bonesoup.serving.jobs import Job, follow
from bonesoup.serving.protocol import Adapters, ChatBody, Count, Preference, Seed, Temperature, TopK, TopP, Turn
from bonesoup.serving.replies import Steered, Weights
from bonesoup.serving.strict import Strict, one_of, refused


class Item(Turn):
    """A turn of the input of /v1/responses; output items of earlier answers are accepted unchanged."""

    type: Literal["message"] = "message"
    id: str | None = None
    status: str | None = None


PLAIN = "text must leave the format at text: /v1/chat/completions takes JSON schemas"
Format = Annotated[dict[Literal["format", "verbosity"], dict | str | None] | None, one_of(PLAIN)]


class _Chat(ChatBody):
    """The chat that a response is, with its faults named as its client wrote the fields."""

    text_field: ClassVar[str] = "input"
    limit_field: ClassVar[str] = "max_output_tokens"


class ResponseBody(Strict):
    """POST /v1/responses: converted to a chat, of which nothing is kept."""

    model: str
    preference: Preference | None = None
    adapters: Adapters = None
    input: Annotated[
        str | Annotated[list[Item], Field(min_length=1)],
        one_of("input must be text or a list of messages of text: tools, images and files are not taken"),
    ]
    instructions: str | None = None
    max_output_tokens: Count | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    top_k: TopK | None = None
    seed: Seed | None = None
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
            raise refused("text", PLAIN)
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
        return _Chat(messages=messages, max_tokens=self.max_output_tokens, stream=self.stream, **shared)


class OutputText(BaseModel):
    """The text of an output message."""

    type: Literal["output_text"]
    text: str
    annotations: list


class OutputMessage(BaseModel):
    """The assistant's turn."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    status: Literal["completed", "incomplete"]
    content: list[OutputText]


class Response(Steered):
    """The answer to /v1/responses."""

    id: str
    object: Literal["response"]
    created_at: int
    model: str
    status: Literal["completed", "incomplete", "in_progress"]
    output: list[OutputMessage]
    usage: dict | None
    coefficients: Weights
    note: str | None = None


def convert(chat: dict, body: ResponseBody) -> dict:
    """Convert a chat's answer."""
    choice, usage = chat["choices"][0], chat["usage"]
    counted = {
        "input_tokens": usage["prompt_tokens"],
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": usage["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage["total_tokens"],
    }
    return _response(chat, body, choice["message"]["content"], choice["finish_reason"]) | {"usage": counted}


def _response(head: dict, body: ResponseBody, text: str | None, reason: str | None) -> dict:
    """Return the response object; `text` is None until the answer is complete."""
    status = {None: "in_progress", "stop": "completed", "length": "incomplete"}[reason]
    return {
        "id": head["id"].replace("chatcmpl-", "resp_"),
        "object": "response",
        "created_at": head["created"],
        "model": body.model,
        "status": status,
        "output": [] if text is None else [_message(head, text, status)],
        "usage": None,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "metadata": {},
        "parallel_tool_calls": False,
        "previous_response_id": None,
        "temperature": body.temperature,
        "text": {"format": {"type": "text"}},
        "tool_choice": "none",
        "tools": [],
        "top_p": body.top_p,
        "truncation": "disabled",
    } | {name: head[name] for name in ("preference", "coefficients", "outcome", "note") if name in head}


def _message(head: dict, text: str, status: str) -> dict:
    return {
        "id": head["id"].replace("chatcmpl-", "msg_"),
        "type": "message",
        "role": "assistant",
        "status": status,
        "content": [_part(text)],
    }


def _part(text: str) -> dict:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


async def stream(job: Job, body: ResponseBody) -> AsyncIterator[str]:
    """Yield server-sent events of the Responses API: created, the message as it grows, completed."""
    number = 0

    def write(kind: str, **fields) -> str:
        nonlocal number
        number += 1
        return event({"type": kind, "sequence_number": number - 1, **fields}, kind)

    started = _response(job.head, body, None, None)
    message = _message(job.head, "", "in_progress")
    place = {"item_id": message["id"], "output_index": 0, "content_index": 0}
    text, tokens, reason = "", 0, "stop"
    try:
        yield write("response.created", response=started)
        yield write("response.in_progress", response=started)
        yield write("response.output_item.added", output_index=0, item=message | {"content": []})
        yield write("response.content_part.added", **place, part=_part(""))
        async for _, step in follow(job):
            tokens += 1
            text += step.piece
            reason = step.reason or reason
            if step.piece:
                yield write("response.output_text.delta", **place, delta=step.piece, logprobs=[])
        choice = {"message": {"content": text}, "finish_reason": reason}
        response = convert(job.head | {"choices": [choice], "usage": job.usage(tokens)}, body)
        yield write("response.output_text.done", **place, text=text, logprobs=[])
        yield write("response.content_part.done", **place, part=_part(text))
        yield write("response.output_item.done", output_index=0, item=response["output"][0])
        yield write(f"response.{response['status']}", response=response)
    except ApiError as error:
        problem = errors.body(error)["error"]
        yield write("error", code=problem["code"], message=problem["message"], param=problem["param"])
