"""The rows of a request on their way through the engine."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import numpy as np
from fastapi import Request as HttpRequest

from bonesoup.generation.batch import GivenText, Request
from bonesoup.generation.json_answers import JsonSchema
from bonesoup.generation.sampling import Likelihood
from bonesoup.serving import steering
from bonesoup.serving.engine import Answer, Down, Full
from bonesoup.serving.errors import ApiError
from bonesoup.serving.live import Live
from bonesoup.serving.protocol import ChatBody, CompletionBody
from bonesoup.serving.steering import Choice
from bonesoup.serving.text import Pieces

# Below this, logits divided by the temperature leave float32's range: take the likeliest token.
COLDEST = 1e-4


@dataclass(frozen=True, eq=False)
class Row:
    """One answer on its way.

    Attributes:
        prompt: token ids.
        answer: what the engine generates; None if only the prompt is asked for.
        given: log-probabilities of the prompt; None if they were not asked for.
    """

    prompt: Sequence[int]
    choice: Choice
    answer: Answer | None
    given: Answer | None


@dataclass(frozen=True, eq=False)
class Job:
    """The rows of one HTTP request, and the fields that every chunk of its answer repeats."""

    live: Live
    body: ChatBody | CompletionBody
    rows: list[Row]
    head: dict
    prompt_tokens: int

    @property
    def chat(self) -> bool:
        """Return True for a chat, False for the continuation of a text."""
        return isinstance(self.body, ChatBody)

    @property
    def echo(self) -> bool:
        """Return True if answers begin with their prompt."""
        return not self.chat and bool(self.body.echo)

    def usage(self, completion: int) -> dict[str, int]:
        """Count the tokens of the request, of which the answers have `completion`."""
        total = self.prompt_tokens + completion
        return {"prompt_tokens": self.prompt_tokens, "completion_tokens": completion, "total_tokens": total}

    def release(self) -> None:
        """Tell the engine that nobody waits for the rows any more."""
        answers = [answer for row in self.rows for answer in (row.answer, row.given) if answer]
        self.live.engine.cancel(answers)


@dataclass(frozen=True)
class Step:
    """One token of a row: the text that can be sent after it, its likelihood, and the reason if the row ends."""

    piece: str
    likelihood: Likelihood | None
    reason: str | None


def submit(live: Live, body: ChatBody | CompletionBody, header: str | None = None) -> Job:
    """Convert a body to rows and queue them.

    Args:
        header: the preference in the request's headers.

    Raises:
        ApiError: 400 or 404 for faults of the body, 429 if the queue is full, 503 if the engine is down.
    """
    chat = isinstance(body, ChatBody)
    choices = steering.choose_all(live.source, body, header)
    field = body.text_field
    prompts = [live.chat_prompt(body.messages, field)] if chat else [live.plain_prompt(text) for text in body.prompts]
    limit, note = live.limit(max(map(len, prompts)), body.limit, field, body.limit_field)
    scored = not chat and bool(body.echo) and body.alternatives is not None
    schema = live.json_schema(body.answer_schema) if chat and body.answer_schema is not None else None
    n, seed = body.n or 1, secrets.randbits(62) if body.seed is None else body.seed
    plan = []
    for p, prompt in enumerate(prompts):
        for choice in choices:
            vector = live.vector(choice)
            for i in range(n):
                # Every preference gets the same noise, so that answers differ by the preference alone.
                request = _request(live, body, prompt, vector, seed + p * n + i, limit, schema) if limit else None
                given = GivenText(None, prompt, 1, vector, body.alternatives) if scored and len(prompt) > 1 else None
                plan.append((prompt, choice, request, given))
    requests = [each for *_, request, given in plan for each in (given, request) if each]
    answers = dict(zip(requests, queue(live, requests, choices[0].method), strict=True))
    rows = [Row(prompt, choice, answers.get(request), answers.get(given)) for prompt, choice, request, given in plan]
    kind = "chatcmpl" if chat else "cmpl"
    head = {"id": f"{kind}-{secrets.token_hex(12)}", "created": int(time.time()), "model": body.model}
    if body.preferences is None:
        head |= choices[0].steered
    if note:
        head["note"] = note
    return Job(live, body, rows, head, sum(map(len, prompts)))


def _request(
    live: Live,
    body: ChatBody | CompletionBody,
    prompt: Sequence[int],
    vector: np.ndarray,
    seed: int,
    limit: int,
    schema: JsonSchema | None,
) -> Request:
    temperature = live.source.temperature if body.temperature is None else body.temperature
    return Request(
        key=None,
        prompt=prompt,
        coefficients=vector,
        # torch's seeds have 64 bits; a negative seed is the same as a large one.
        seed=seed % 2**63,
        temperature=0.0 if temperature < COLDEST else temperature,
        top_p=body.top_p or 1.0,
        max_new_tokens=limit,
        top_k=max(body.top_k or 0, 0),
        min_p=body.min_p or 0.0,
        repetition_penalty=body.repetition_penalty or 1.0,
        presence_penalty=body.presence_penalty or 0.0,
        frequency_penalty=body.frequency_penalty or 0.0,
        min_tokens=body.min_tokens or 0,
        ignore_eos=bool(body.ignore_eos),
        alternatives=body.alternatives,
        schema=schema,
    )


def queue(live: Live, requests: Sequence[Request | GivenText], method: str) -> list[Answer]:
    """Queue rows, all or none.

    Raises:
        ApiError: 400 for more rows than ever fit, 429 when the queue is full, 503 when the engine is down.
    """
    limits = live.engine.limits
    if len(requests) > (most := limits.batch + limits.queue):
        text = f"the request asks for {len(requests)} rows, but this server takes at most {most}: ask for fewer"
        raise ApiError(400, text, code="too_many_rows")
    try:
        return live.engine.submit(requests, method)
    except Full:
        text = "the queue is full: try again in a moment"
        raise ApiError(429, text, code="queue_full", headers={"Retry-After": "1"}) from None
    except Down as error:
        raise ApiError(503, str(error), code="unavailable", headers={"Retry-After": "5"}) from None


async def next_event(live: Live, answer: Answer) -> tuple:
    """Wait for the next event of an answer.

    Raises:
        ApiError: 504 when its time is up, 500 when the engine fails.
    """
    value, end = await answer.events.get()
    if end == "timeout":
        raise ApiError(504, f"the answer took longer than {live.engine.limits.seconds:g} s", code="timeout")
    if end == "failed":
        raise ApiError(500, live.engine.fault, code="engine_failed")
    return value, end


async def steps(job: Job, row: Row) -> AsyncIterator[Step]:
    """Follow one row, token by token."""
    if row.answer is None:
        return
    pieces = Pieces(job.live.tokenizer, job.body.stops)
    while True:
        token, end = await next_event(job.live, row.answer)
        # The end token has no text, even if it is an ordinary token.
        piece = pieces.push(None if end == "stop" else token.id, last=end is not None)
        if pieces.stopped:
            if end is None:
                job.live.engine.cancel([row.answer])
            end = "stop"
        yield Step(piece, token.likelihood, end)
        if end:
            return


async def unless_gone(http: HttpRequest, waits: list, release) -> list:
    """Await everything, unless the client goes away or the server ends first; `release` is called in any case.

    Raises:
        ApiError: as the awaited raise; 499 for a client that is gone, 503 at the end of the server.
    """
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    every, gone = asyncio.gather(*tasks), asyncio.ensure_future(_disconnected(http))
    try:
        await asyncio.wait([every, gone], return_when=asyncio.FIRST_COMPLETED)
        if not every.done():
            raise ApiError(499, "the client went away")
        return await every
    except asyncio.CancelledError:
        # Cancelled when the time for running answers is up after the server was stopped.
        text = "the server was stopped before the answer was complete"
        raise ApiError(503, text, code="unavailable") from None
    finally:
        release()
        for task in (*tasks, gone):
            task.cancel()
        # asyncio would report every unretrieved failure on standard error.
        await asyncio.gather(*tasks, every, gone, return_exceptions=True)


async def _disconnected(http: HttpRequest) -> None:
    while (await http.receive())["type"] != "http.disconnect":
        pass


async def follow(job: Job) -> AsyncIterator[tuple[int, Step | list[Likelihood]]]:
    """Merge the rows of a job: (index, step) as they come, and before a row's first step its prompt's likelihoods.

    Raises:
        ApiError: what ends a row without an answer.
    """
    merged: asyncio.Queue = asyncio.Queue()

    async def forward(index: int, row: Row) -> None:
        try:
            if job.echo:
                given = (await next_event(job.live, row.given))[0] if row.given else []
                merged.put_nowait((index, given))
            async for step in steps(job, row):
                merged.put_nowait((index, step))
            merged.put_nowait((index, None))
        except Exception as error:
            merged.put_nowait((index, error))

    tasks = [asyncio.ensure_future(forward(i, row)) for i, row in enumerate(job.rows)]
    try:
        left = len(tasks)
        while left:
            index, item = await merged.get()
            if isinstance(item, Exception):
                raise item
            if item is None:
                left -= 1
            else:
                yield index, item
    finally:
        for task in tasks:
            task.cancel()
