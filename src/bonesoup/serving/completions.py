"""Answers in OpenAI's form: whole, or as server-sent events."""

import json
from collections.abc import AsyncIterator, Sequence

from fastapi import Request as HttpRequest

from bonesoup.generation.sampling import Likelihood
from bonesoup.serving import errors
from bonesoup.serving.errors import ApiError
from bonesoup.serving.jobs import Job, Row, Step, follow, next_event, steps, unless_gone
from bonesoup.serving.logprobs import chat_logprobs, text_logprobs


async def whole(job: Job, http: HttpRequest) -> dict:
    """Wait for the complete answer, unless the client goes away first.

    Raises:
        ApiError: timeout, failure, or the end of the server.
    """

    async def complete(row: Row) -> tuple[list[Likelihood], list[Step]]:
        given = (await next_event(job.live, row.given))[0] if row.given else []
        return given, [step async for step in steps(job, row)]

    results = await unless_gone(http, [complete(row) for row in job.rows], job.release)
    kind = "chat.completion" if job.chat else "text_completion"
    choices = [_complete(job, index, *result) for index, result in enumerate(results)]
    usage = job.usage(sum(len(taken) for _, taken in results))
    return job.head | {"object": kind, "choices": choices, "usage": usage}


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
                yield event(_chunk(job, index, {"content": prompt}, _logprobs(job, item, row.prompt[0])))
                if row.answer is None:
                    yield event(_chunk(job, index, {}, reason="length"))
                continue
            count += 1
            logprobs = _logprobs(job, [item.likelihood])
            if item.piece or logprobs:
                yield event(_chunk(job, index, {"content": item.piece}, logprobs))
            if item.reason:
                yield event(_chunk(job, index, {}, reason=item.reason))
        options = job.body.stream_options
        if options and options.include_usage:
            yield event(job.head | {"object": _kind(job), "choices": [], "usage": job.usage(count)})
        yield "data: [DONE]\n\n"
    except ApiError as error:
        yield event(errors.body(error))


def event(value: dict, name: str | None = None) -> str:
    """Write one server-sent event."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(value, ensure_ascii=False)}\n\n"


def _kind(job: Job) -> str:
    return "chat.completion.chunk" if job.chat else "text_completion"


def _chunk(job: Job, index: int, delta: dict, logprobs: dict | None = None, reason: str | None = None) -> dict:
    content = {"delta": delta} if job.chat else {"text": delta.get("content", "")}
    return job.head | {"object": _kind(job), "choices": [_choice(job, index, content, logprobs, reason)]}


def _complete(job: Job, index: int, given: list[Likelihood], taken: list[Step]) -> dict:
    """Return the choice of a complete answer, which begins with its prompt if that is echoed."""
    text = "".join(step.piece for step in taken)
    first = None
    if job.echo:
        prompt = job.rows[index].prompt
        text, first = job.live.tokenizer.decode(prompt) + text, prompt[0]
    content = {"message": {"role": "assistant", "content": text}} if job.chat else {"text": text}
    logprobs = _logprobs(job, [*given, *(step.likelihood for step in taken)], first)
    return _choice(job, index, content, logprobs, taken[-1].reason if taken else "length")


def _choice(job: Job, index: int, content: dict, logprobs: dict | None, reason: str | None) -> dict:
    choice = {"index": index, **content, "logprobs": logprobs, "finish_reason": reason}
    # With several preferences, each choice names its own.
    return choice if job.body.preferences is None else choice | job.rows[index].choice.steered


def _logprobs(job: Job, likely: Sequence[Likelihood | None], first: int | None = None) -> dict | None:
    """Write log-probabilities if the request asks for them; `first` is that of an echoed prompt, which has none."""
    if job.body.alternatives is None:
        return None
    if job.chat:
        return chat_logprobs(job.live.tokenizer, likely)
    return text_logprobs(job.live.tokenizer, likely, first)
