"""The thread that owns the model: requests wait in a bounded queue, join the running batch, and leave it.

Coroutines submit requests with `Engine.submit` and read an `Answer` each; tokens arrive on their event loop. An answer
holds no more than its token limit, so a client that does not read costs no more than one that does.
"""

import asyncio
import itertools
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from bonesoup.generation.batch import GivenText, Request, RunningBatch, Token
from bonesoup.generation.soup import SoupModel
from bonesoup.serving.metrics import Metrics


class Full(Exception):
    """The queue is full."""


class Down(Exception):
    """The engine has failed or is closed; its text says which."""


@dataclass(frozen=True)
class Limits:
    """The limits of the engine.

    Attributes:
        batch: rows that run at once.
        queue: rows that may wait.
        prefill: prompt tokens, padding included, that join in one step, so that running rows do not wait long.
        seconds: from submission to the last token.
    """

    batch: int
    queue: int
    seconds: float
    prefill: int = 8192


@dataclass(eq=False)
class Answer:
    """The tokens of one row, as they come.

    Events are (token, end) with `end` None while the row continues, "stop" or "length" at its last token; (None,
    "timeout" or "failed"); and for a given text (its likelihoods, "scored").
    """

    request: Request | GivenText
    method: str
    loop: asyncio.AbstractEventLoop
    deadline: float
    submitted: float
    events: asyncio.Queue = field(default_factory=asyncio.Queue)
    last: float | None = None


def _tell(events: list[tuple[Answer, tuple]]) -> None:
    """Hand events to the event loops that wait for them, with one call for each loop."""
    for loop in {answer.loop for answer, _ in events}:
        addressed = [(answer.events, event) for answer, event in events if answer.loop is loop]
        try:
            loop.call_soon_threadsafe(_put, addressed)
        except RuntimeError:
            # The loop is closed, so nobody listens any more.
            continue


def _put(events: list[tuple[asyncio.Queue, tuple]]) -> None:
    for queue, event in events:
        queue.put_nowait(event)


class Engine:
    """A SoupModel that many coroutines ask at once."""

    def __init__(self, policy: SoupModel, limits: Limits, metrics: Metrics):
        self.policy = policy
        self.limits = limits
        self.metrics = metrics
        self.fault: str | None = None
        self._batch = RunningBatch(policy)
        self._waiting: deque[Answer] = deque()
        self._running: dict[int, Answer] = {}
        self._gone: set[int] = set()
        self._keys = itertools.count()
        self._closing = False
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    @property
    def running(self) -> int:
        """Return the number of rows in the batch."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Return the number of rows in the queue."""
        return len(self._waiting)

    def submit(self, requests: Sequence[Request | GivenText], method: str = "") -> list[Answer]:
        """Queue rows, all or none, and assign their keys.

        Args:
            method: the answering soup's method, for the metrics.

        Raises:
            Full: the queue cannot take all of them.
            Down: the engine has failed or is closing.
        """
        loop, now = asyncio.get_running_loop(), time.monotonic()
        answers = [
            Answer(replace(request, key=next(self._keys)), method, loop, now + self.limits.seconds, now)
            for request in requests
        ]
        with self._news:
            if self.fault or self._closing:
                raise Down(self.fault or "the server is shutting down")
            free = self.limits.batch - len(self._running)
            if len(self._waiting) + len(answers) > self.limits.queue + max(free, 0):
                raise Full
            self._waiting += answers
            self._news.notify()
        return answers

    def cancel(self, answers: list[Answer]) -> None:
        """Drop rows that nobody waits for; unknown and finished ones are ignored."""
        with self._news:
            self._gone |= {answer.request.key for answer in answers}
            self._news.notify()

    def close(self) -> None:
        """Finish what waits and runs, take nothing new; returns at once."""
        with self._news:
            self._closing = True
            self._news.notify()

    def join(self) -> None:
        """Wait until the engine has ended."""
        self._thread.join()

    def _run(self) -> None:
        try:
            while self._wait():
                self._settle()
                joining, scoring = self._admit()
                if scoring:
                    self._deliver_scores(scoring, self._batch.score([answer.request for answer in scoring]))
                if joining:
                    self._deliver(self._batch.join([answer.request for answer in joining]))
                self._deliver(self._batch.step())
        except Exception as error:
            with self._news:
                self.fault = f"the engine stopped: {type(error).__name__}: {error}"
                lost = [*self._running.values(), *self._waiting]
                self._running, self._waiting = {}, deque()
            self._end(lost, "failed")

    def _wait(self) -> bool:
        """Sleep until there is work; False when closed and empty."""
        with self._news:
            while not (self._waiting or self._running):
                self._gone.clear()
                if self._closing:
                    return False
                self._news.wait()
            return True

    def _settle(self) -> None:
        """Drop rows that nobody waits for, and those that are out of time."""
        now = time.monotonic()
        with self._news:
            gone, self._gone = self._gone, set()
            late = {
                answer.request.key: answer
                for answer in [*self._running.values(), *self._waiting]
                if answer.deadline < now and answer.request.key not in gone
            }
            asked = self._running | {answer.request.key: answer for answer in self._waiting}
            for key in gone & asked.keys():
                self.metrics.ended.labels("cancelled", asked[key].method).inc()
            leaving = gone | late.keys()
            self._waiting = deque(answer for answer in self._waiting if answer.request.key not in leaving)
            self._running = {key: answer for key, answer in self._running.items() if key not in leaving}
        if leaving:
            self._batch.drop(leaving)
            self._end(list(late.values()), "timeout")

    def _admit(self) -> tuple[list[Answer], list[Answer]]:
        """Take waiting rows, oldest first: those that join the batch now, and the given texts that are scored now."""
        taken: list[Answer] = []
        longest, now = 0, time.monotonic()
        with self._news:
            while self._waiting and len(self._running) < self.limits.batch:
                longest = max(longest, _length(self._waiting[0].request))
                if taken and longest * (len(taken) + 1) > self.limits.prefill:
                    break
                answer = self._waiting.popleft()
                taken.append(answer)
                self._running[answer.request.key] = answer
        for answer in taken:
            self.metrics.queued.labels(answer.method).observe(now - answer.submitted)
            self.metrics.prompt_tokens.labels(answer.method).inc(_length(answer.request))
        scoring = [answer for answer in taken if isinstance(answer.request, GivenText)]
        return [answer for answer in taken if answer not in scoring] if scoring else taken, scoring

    def _deliver_scores(self, answers: list[Answer], scores: list[list]) -> None:
        with self._news:
            for answer in answers:
                del self._running[answer.request.key]
        self._count(answers, "scored")
        _tell([(answer, (likely, "scored")) for answer, likely in zip(answers, scores, strict=True)])

    def _deliver(self, tokens: list[Token]) -> None:
        if not tokens:
            return
        now = time.monotonic()
        self.metrics.batch.observe(len(tokens))
        answers = [self._running[token.key] for token in tokens]
        for answer in answers:
            if answer.last is None:
                self.metrics.first.labels(answer.method).observe(now - answer.submitted)
            else:
                self.metrics.between.labels(answer.method).observe(now - answer.last)
            answer.last = now
            self.metrics.tokens.labels(answer.method).inc()
        ended = [(answer, token.end) for answer, token in zip(answers, tokens, strict=True) if token.end]
        if ended:
            with self._news:
                for answer, _ in ended:
                    del self._running[answer.request.key]
            for answer, end in ended:
                self._count([answer], end)
        _tell([(answer, (token, token.end)) for answer, token in zip(answers, tokens, strict=True)])

    def _end(self, answers: list[Answer], end: str) -> None:
        """End answers without another token."""
        self._count(answers, end)
        _tell([(answer, (None, end)) for answer in answers])

    def _count(self, answers: list[Answer], end: str) -> None:
        now = time.monotonic()
        for answer in answers:
            self.metrics.ended.labels(end, answer.method).inc()
            self.metrics.answered.labels(answer.method).observe(now - answer.submitted)


def _length(request: Request | GivenText) -> int:
    return len(request.ids if isinstance(request, GivenText) else request.prompt)
