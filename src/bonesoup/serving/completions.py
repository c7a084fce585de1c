"""A request's rows through the engine, and its answer in OpenAI's form: whole, or as server-sent events."""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import numpy as np
from fastapi import Request as HttpRequest

from bonesoup.generation.batch import Request
from bonesoup.serving import errors, steering
from bonesoup.serving.engine import Answer, Down, Engine, Full
from bonesoup.serving.errors import ApiError
from bonesoup.serving.protocol import ChatBody, CompletionBody, Sampling
from bonesoup.serving.source import Source
from bonesoup.serving.text import Pieces, chat_tokens, plain_tokens, roles

# Below it, logits divided by the temperature leave float32's range: the likeliest token is meant.
COLDEST = 1e-4


@dataclass(frozen=True)
class Bounds:
    """The longest prompt and the longest answer, in tokens."""

    prompt: int
    answer: int


@dataclass(frozen=True, eq=False)
class Live:
    """A source and the engine that answers for it."""

    source: Source
    engine: Engine
    bounds: Bounds

    @property
    def tokenizer(self):
        return self.engine.policy.tokenizer


@dataclass(frozen=True, eq=False)
class Job:
    """The rows of one HTTP request on their way."""

    live: Live
    answers: list[Answer]
    head: dict
    chat: bool
    stops: list[str]
    steered: dict
    prompt_tokens: int

    def release(self) -> None:
        """Nobody waits for the rows any more."""
        self.live.engine.cancel(self.answers)


def submit(live: Live, body: ChatBody | CompletionBody) -> Job:
    """Turn a body into rows and queue them.

    Raises:
        ApiError: 400 or 404 for what is wrong with the body, 429 when the queue is full, 503 when the engine is down.
    """
    source, chat = live.source, isinstance(body, ChatBody)
    method = steering.method_of(source, body.model)
    preference = steering.preference_of(source, body.model, body.preference)
    prompts = [_chat_prompt(live, body)] if chat else [_plain_prompt(live, text) for text in body.prompts]
    longest = max(map(len, prompts))
    limit = body.limit or _usual_limit(live, longest)
    _check_room(live, longest, limit)
    values = np.array(
        live.engine.policy.coefficients([preference[name] for name in source.objectives], source.soups[method])
    )
    seed = secrets.randbits(62) if body.seed is None else body.seed
    temperature = source.temperature if body.temperature is None else body.temperature
    if temperature < COLDEST:
        temperature = 0.0
    rows = [
        # Seeds of torch are 64 bits; a negative one is another such number.
        Request(None, prompt, values, (seed + i) % 2**63, temperature, body.top_p or 1.0, limit)
        for i, prompt in enumerate(prompt for prompt in prompts for _ in range(body.n or 1))
    ]
    try:
        answers = live.engine.submit(rows)
    except Full:
        raise ApiError(
            429, "the queue is full: try again in a moment", code="queue_full", headers={"Retry-After": "1"}
        ) from None
    except Down as error:
        raise ApiError(503, str(error), code="unavailable", headers={"Retry-After": "5"}) from None
    live.engine.metrics.prompt_tokens.inc(sum(len(row.prompt) for row in rows))
    head = {
        "id": f"{'chatcmpl' if chat else 'cmpl'}-{secrets.token_hex(12)}",
        "created": int(time.time()),
        "model": body.model,
    }
    steered = {"preference": preference, "coefficients": steering.coefficients(source, method, preference)}
    return Job(live, answers, head, chat, body.stops, steered, sum(map(len, prompts)))


def _chat_prompt(live: Live, body: ChatBody) -> list[int]:
    messages = []
    known = roles(live.tokenizer)
    for place, message in enumerate(body.messages):
        role = "system" if message.role == "developer" else message.role
        if role not in known:
            raise ApiError(
                400,
                f"this model knows no {message.role} messages, only {' and '.join(known)}",
                f"messages.{place}.role",
            )
        messages.append({"role": role, "content": message.content})
    try:
        return chat_tokens(live.tokenizer, messages)
    except ValueError as error:
        raise ApiError(400, str(error), "messages") from None


def _plain_prompt(live: Live, text: str) -> list[int]:
    if ids := plain_tokens(live.tokenizer, text):
        return ids
    raise ApiError(400, "the prompt has no tokens", "prompt")


def _usual_limit(live: Live, prompt: int) -> int:
    """Tokens of an answer where a request does not say: the version's own, as far as the context has room."""
    room = (_context(live) or prompt + live.source.max_new_tokens) - prompt
    return max(1, min(live.source.max_new_tokens, live.bounds.answer, room))


def _context(live: Live) -> int | None:
    return getattr(live.engine.policy.model.config, "max_position_embeddings", None)


def _check_room(live: Live, prompt: int, new: int) -> None:
    """A bound of the server, or the model's context: past it a model answers nonsense."""
    bounds = live.bounds
    code = "context_length_exceeded"
    if prompt > bounds.prompt:
        raise ApiError(400, f"the prompt has {prompt} tokens, this server takes {bounds.prompt}", "messages", code)
    if new > bounds.answer:
        raise ApiError(400, f"max_tokens is {new}, this server gives at most {bounds.answer}", "max_tokens", code)
    context = _context(live)
    if context and prompt + new > context:
        text = f"the prompt has {prompt} tokens; with {new} new ones it does not fit into the context of {context}"
        raise ApiError(400, f"{text}: shorten it, or lower max_tokens", "messages", code)


async def _row(job: Job, answer: Answer) -> AsyncIterator[tuple[str, str | None]]:
    """(piece of text, finish reason at the end) for every token of one row."""
    pieces = Pieces(job.live.tokenizer, job.stops)
    while True:
        token, end = await answer.events.get()
        if end == "timeout":
            limit = job.live.engine.limits.seconds
            raise ApiError(504, f"the answer took longer than {limit:g} s", code="timeout")
        if end == "failed":
            raise ApiError(500, job.live.engine.fault or "the engine failed", code="engine_failed")
        # The end token has no text, and may be any token where it is not marked special.
        piece = pieces.push(None if end == "stop" else token, last=end is not None)
        if pieces.stopped and end is None:
            job.live.engine.cancel([answer])
            end = "stop"
        elif pieces.stopped:
            end = "stop"
        yield piece, end
        if end:
            return


async def whole(job: Job, http: HttpRequest) -> dict:
    """The complete answer, unless the client goes away first.

    Raises:
        ApiError: timeout, failure, or the end of the server.
    """

    async def one(answer: Answer) -> tuple[str, str, int]:
        steps = [step async for step in _row(job, answer)]
        return "".join(piece for piece, _ in steps), steps[-1][1], len(steps)

    async def every() -> list[tuple[str, str, int]]:
        return await asyncio.gather(*map(one, job.answers))

    rows, gone = asyncio.ensure_future(every()), asyncio.ensure_future(_disconnected(http))
    try:
        await asyncio.wait([rows, gone], return_when=asyncio.FIRST_COMPLETED)
        if not rows.done():
            raise ApiError(499, "the client went away")
        results = await rows
    except asyncio.CancelledError:
        # What cancels it is the end of the time that running answers get when the server is stopped.
        text = "the server was stopped before the answer was complete"
        raise ApiError(503, text, code="unavailable") from None
    finally:
        job.release()
        rows.cancel()
        gone.cancel()
    choices = [_choice(job, i, text, reason) for i, (text, reason, _) in enumerate(results)]
    usage = _usage(job, sum(count for _, _, count in results))
    kind = "chat.completion" if job.chat else "text_completion"
    return job.head | {"object": kind, "choices": choices, "usage": usage} | job.steered


async def _disconnected(http: HttpRequest) -> None:
    while (await http.receive())["type"] != "http.disconnect":
        pass


async def stream(job: Job, usage: bool) -> AsyncIterator[str]:
    """Server-sent events: a chunk per piece of text, then [DONE]; an error becomes the last event."""
    merged: asyncio.Queue = asyncio.Queue()

    async def forward(index: int, answer: Answer) -> None:
        try:
            async for step in _row(job, answer):
                merged.put_nowait((index, step))
        except Exception as error:
            merged.put_nowait((index, error))

    tasks = [asyncio.ensure_future(forward(i, answer)) for i, answer in enumerate(job.answers)]
    try:
        if job.chat:
            for i in range(len(tasks)):
                yield _event(_chunk(job, i, {"role": "assistant", "content": ""}, None))
        left, count = len(tasks), 0
        while left:
            index, step = await merged.get()
            if isinstance(step, ApiError):
                yield _event(errors.body(step.status, str(step), step.param, step.code))
                return
            if isinstance(step, Exception):
                raise step
            piece, reason = step
            count += 1
            if piece:
                yield _event(_chunk(job, index, {"content": piece}, None))
            if reason:
                left -= 1
                yield _event(_chunk(job, index, {}, reason))
        if usage:
            yield _event(_chunk(job) | {"choices": [], "usage": _usage(job, count)})
        yield "data: [DONE]\n\n"
    finally:
        for task in tasks:
            task.cancel()


def _event(value: dict) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"


def _chunk(job: Job, index: int = 0, delta: dict | None = None, reason: str | None = None) -> dict:
    if delta is None:
        choices = []
    elif job.chat:
        choices = [{"index": index, "delta": delta, "finish_reason": reason}]
    else:
        choices = [{"index": index, "text": delta.get("content", ""), "logprobs": None, "finish_reason": reason}]
    kind = "chat.completion.chunk" if job.chat else "text_completion"
    return job.head | {"object": kind, "choices": choices} | job.steered


def _choice(job: Job, index: int, text: str, reason: str) -> dict:
    if job.chat:
        message = {"role": "assistant", "content": text}
        return {"index": index, "message": message, "logprobs": None, "finish_reason": reason}
    return {"index": index, "text": text, "logprobs": None, "finish_reason": reason}


def _usage(job: Job, completion: int) -> dict:
    return {
        "prompt_tokens": job.prompt_tokens,
        "completion_tokens": completion,
        "total_tokens": job.prompt_tokens + completion,
    }


def wants_usage(body: Sampling) -> bool:
    return bool(body.stream_options and body.stream_options.include_usage)
