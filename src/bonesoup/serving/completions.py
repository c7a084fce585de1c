"""Answers in OpenAI's form: whole, or as server-sent events."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from fastapi import Request as HttpRequest

from bonesoup.generation.sampling import Likelihood
from bonesoup.serving import errors
from bonesoup.serving.errors import ApiError
from bonesoup.serving.jobs import Job, Row, follow, next_event, steps, unless_gone
from bonesoup.serving.logprobs import chat_logprobs, text_logprobs


@dataclass
class Complete:
    """The complete answer of one row."""

    text: str = ""
    reason: str = "length"
    tokens: int = 0
    likely: list[Likelihood] = field(default_factory=list)


async def whole(job: Job, http: HttpRequest) -> dict:
    """Wait for the complete answer, unless the client goes away first.

    Raises:
        ApiError: timeout, failure, or the end of the server.
    """

    async def complete(row: Row) -> Complete:
        result = Complete()
        async for step in steps(job, row):
            result.text += step.piece
            result.tokens += 1
            result.reason = step.reason
            if step.likelihood:
                result.likely.append(step.likelihood)
        return result

    async def choice(index: int, row: Row) -> tuple[dict, int]:
        given = (await next_event(job.live, row.given))[0] if row.given else None
        result = await complete(row)
        return _choice(job, index, row, result, given), result.tokens

    results = await unless_gone(http, [choice(i, row) for i, row in enumerate(job.rows)], job.release)
    kind = "chat.completion" if job.chat else "text_completion"
    usage = _usage(job, sum(tokens for _, tokens in results))
    return job.head | {"object": kind, "choices": [value for value, _ in results], "usage": usage}


async def stream(job: Job) -> AsyncIterator[str]:
    """Yield server-sent events: a chunk per piece of text, then [DONE]; an error becomes the last event."""
    count = 0
    try:
        if job.chat:
            for i in range(len(job.rows)):
                yield event(_chunk(job, i, {"role": "assistant", "content": ""}))
        async for index, item in follow(job):
            row = job.rows[index]
            if isinstance(item, list):
                prompt = job.live.tokenizer.decode(row.prompt)
                logprobs = _given_logprobs(job, row, item) if job.body.alternatives is not None else None
                yield event(_chunk(job, index, {"content": prompt}, logprobs))
                if row.answer is None:
                    yield event(_chunk(job, index, {}, reason="length"))
                continue
            count += 1
            logprobs = _logprobs(job, [item.likelihood]) if item.likelihood else None
            if item.piece or logprobs:
                yield event(_chunk(job, index, {"content": item.piece}, logprobs))
            if item.reason:
                yield event(_chunk(job, index, {}, reason=item.reason))
        if job.body.wants_usage:
            yield event(job.head | {"object": _kind(job), "choices": [], "usage": _usage(job, count)})
        yield "data: [DONE]\n\n"
    except ApiError as error:
        yield event(errors.body(error.status, str(error), error.param, error.code))


def event(value: dict, name: str | None = None) -> str:
    """Write one server-sent event."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(value, ensure_ascii=False)}\n\n"


def _kind(job: Job) -> str:
    return "chat.completion.chunk" if job.chat else "text_completion"


def _chunk(job: Job, index: int, delta: dict, logprobs: dict | None = None, reason: str | None = None) -> dict:
    body = {"delta": delta} if job.chat else {"text": delta.get("content", "")}
    choice = {"index": index, **body, "logprobs": logprobs, "finish_reason": reason}
    if job.steered_choices:
        choice |= job.rows[index].choice.steered
    return job.head | {"object": _kind(job), "choices": [choice]}


def _choice(job: Job, index: int, row: Row, result: Complete, given: list[Likelihood] | None) -> dict:
    if job.chat:
        content = {"message": {"role": "assistant", "content": result.text}}
        logprobs = _logprobs(job, result.likely)
    elif job.body.echo:
        content = {"text": job.live.tokenizer.decode(row.prompt) + result.text}
        logprobs = _given_logprobs(job, row, [*(given or []), *result.likely])
    else:
        content = {"text": result.text}
        logprobs = _logprobs(job, result.likely)
    choice = {"index": index, **content, "logprobs": logprobs, "finish_reason": result.reason}
    return choice | row.choice.steered if job.steered_choices else choice


def _logprobs(job: Job, likely: list[Likelihood]) -> dict | None:
    if job.body.alternatives is None:
        return None
    write = chat_logprobs if job.chat else text_logprobs
    return write(job.live.tokenizer, likely)


def _given_logprobs(job: Job, row: Row, likely: list[Likelihood]) -> dict | None:
    """Return the log-probabilities of an echoed prompt and of its continuation; the first token has none."""
    return None if job.body.alternatives is None else text_logprobs(job.live.tokenizer, likely, row.prompt[0])


def _usage(job: Job, completion: int) -> dict:
    total = job.prompt_tokens + completion
    return {"prompt_tokens": job.prompt_tokens, "completion_tokens": completion, "total_tokens": total}
