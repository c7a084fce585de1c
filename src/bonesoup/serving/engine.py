"""The thread that owns the model: requests wait in a bounded queue, join the running batch, and leave it.

Coroutines talk to it through `Engine.submit` and an `Answer` each; tokens come back on their event loop. What an
answer may hold is bounded by its token limit, so a client that does not read costs no more than one that does.
"""

import asyncio
import itertools
import threading
import time
from collections import deque
from dataclasses import dataclass, field, replace

from bonesoup.generation.batch import Request, RunningBatch
from bonesoup.generation.soup import SoupModel
from bonesoup.serving.metrics import Metrics


class Full(Exception):
    """The queue has no room."""


class Down(Exception):
    """The engine has failed or is closed; its text says which."""


@dataclass(frozen=True)
class Limits:
    """What the engine takes on.

    Attributes:
        batch: rows that run at once.
        queue: rows that may wait.
        prefill: prompt tokens, padding included, that join in one step, so that running rows go on.
        seconds: from submission to the last token.
    """

    batch: int
    queue: int
    seconds: float
    prefill: int = 8192


@dataclass(eq=False)
class Answer:
    """The tokens of one row, as they come: (id, end) with `end` None, "stop", "length", "timeout" or "failed"."""

    request: Request
    loop: asyncio.AbstractEventLoop
    deadline: float
    submitted: float
    events: asyncio.Queue = field(default_factory=asyncio.Queue)
    last: float | None = None

    def tell(self, token: int | None, end: str | None) -> None:
        try:
            self.loop.call_soon_threadsafe(self.events.put_nowait, (token, end))
        except RuntimeError:
            # The loop is closed: nobody is left to listen.
            return


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
        return len(self._running)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def submit(self, requests: list[Request]) -> list[Answer]:
        """Queue rows, all or none; their keys are given here.

        Raises:
            Full: the queue has no room for all of them.
            Down: the engine has failed or is closing.
        """
        loop, now = asyncio.get_running_loop(), time.monotonic()
        answers = [
            Answer(replace(request, key=next(self._keys)), loop, now + self.limits.seconds, now) for request in requests
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
        """Nobody wants these any more; unknown and finished ones are no matter."""
        with self._news:
            self._gone |= {answer.request.key for answer in answers}
            self._news.notify()

    def close(self) -> None:
        """Finish what waits and runs, take nothing new; returns at once."""
        with self._news:
            self._closing = True
            self._news.notify()

    def join(self) -> None:
        self._thread.join()

    def _run(self) -> None:
        try:
            while self._wait():
                self._settle()
                if joining := self._admit():
                    self._deliver(self._batch.join([answer.request for answer in joining]))
                self._deliver(self._batch.step())
        except Exception as error:
            with self._news:
                self.fault = f"the engine stopped: {type(error).__name__}: {error}"
                lost = [*self._running.values(), *self._waiting]
                self._running, self._waiting = {}, deque()
            for answer in lost:
                answer.tell(None, "failed")
            self.metrics.ended.labels("failed").inc(len(lost))

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
        """Let go of rows that nobody waits for, and of those whose time is up."""
        now = time.monotonic()
        with self._news:
            gone, self._gone = self._gone, set()
            late = {
                answer.request.key: answer
                for answer in [*self._running.values(), *self._waiting]
                if answer.deadline < now and answer.request.key not in gone
            }
            asked = self._running.keys() | {answer.request.key for answer in self._waiting}
            self.metrics.ended.labels("cancelled").inc(len(gone & asked))
            leaving = gone | late.keys()
            self._waiting = deque(answer for answer in self._waiting if answer.request.key not in leaving)
            self._running = {key: answer for key, answer in self._running.items() if key not in leaving}
        self._batch.drop(leaving)
        for answer in late.values():
            self._end(answer, None, "timeout")

    def _admit(self) -> list[Answer]:
        """The waiting rows that join now, oldest first."""
        joining: list[Answer] = []
        with self._news:
            while self._waiting and len(self._running) < self.limits.batch:
                longest = max(len(answer.request.prompt) for answer in (*joining, self._waiting[0]))
                if joining and longest * (len(joining) + 1) > self.limits.prefill:
                    break
                answer = self._waiting.popleft()
                joining.append(answer)
                self._running[answer.request.key] = answer
        return joining

    def _deliver(self, tokens: list) -> None:
        now = time.monotonic()
        if tokens:
            self.metrics.batch.observe(len(tokens))
        for token in tokens:
            answer = self._running[token.key]
            if answer.last is None:
                self.metrics.first.observe(now - answer.submitted)
            else:
                self.metrics.between.observe(now - answer.last)
            answer.last = now
            self.metrics.tokens.inc()
            if token.end:
                with self._news:
                    del self._running[token.key]
                self._end(answer, token.id, token.end)
            else:
                answer.tell(token.id, None)

    def _end(self, answer: Answer, token: int | None, end: str) -> None:
        self.metrics.ended.labels(end).inc()
        answer.tell(token, end)
