"""The engine keeps its promises: bounded, timely, cancellable, and never silent when it breaks."""

import asyncio

import numpy as np
import pytest

from bonesoup.generation.batch import Request, RunningBatch
from bonesoup.generation.soup import SoupModel
from bonesoup.serving.engine import Down, Engine, Full, Limits
from bonesoup.serving.metrics import Metrics
from bonesoup.serving.source import from_folder


@pytest.fixture(scope="module")
def policy(version) -> SoupModel:
    main, *others = from_folder(version).soups.values()
    return SoupModel.load(main, beside=others)


@pytest.fixture
def make(policy):
    """Make engines that are closed, and waited for, after the test."""
    made = []

    def engine(**limits) -> Engine:
        made.append(Engine(policy, Limits(**({"batch": 4, "queue": 8, "seconds": 60} | limits)), Metrics()))
        return made[-1]

    yield engine
    for one in made:
        one.close()
        one.join()


def row(seed: int, tokens: int = 6, prompt: int = 5) -> Request:
    values = np.array([1.75, -0.75, 0, 0])
    # Greedy rows of this untrained model do not meet its end token.
    return Request(None, [6 + seed % 10] * prompt, values, seed, 0.0, 1.0, tokens)


async def ends(answers) -> list[str]:
    tokens = []
    for answer in answers:
        end = None
        while end is None:
            _, end = await asyncio.wait_for(answer.events.get(), 60)
        tokens.append(end)
    return tokens


def test_more_rows_than_the_batch_holds_wait_their_turn(make):
    engine = make(batch=2)

    async def run():
        return await ends(engine.submit([row(i) for i in range(7)]))

    assert asyncio.run(run()) == ["length"] * 7
    assert engine.running == engine.waiting == 0


def test_a_full_queue_takes_all_rows_of_a_request_or_none(make):
    engine = make(batch=1, queue=2)

    async def run():
        engine.submit([row(0, 200), row(1, 200)])
        with pytest.raises(Full):
            engine.submit([row(2), row(3), row(4)])
        assert engine.waiting + engine.running == 2

    asyncio.run(run())


def test_an_answer_that_takes_too_long_ends_running_or_waiting(make):
    engine = make(batch=1, seconds=0.05)

    async def run():
        return await ends(engine.submit([row(0, 240), row(1, 240), row(2, 240)]))

    assert set(asyncio.run(run())) == {"timeout"}


def test_a_cancelled_row_makes_room(make):
    engine = make(batch=1)

    async def run():
        first = engine.submit([row(0, 240)])
        while not engine.running:
            await asyncio.sleep(0.001)
        second = engine.submit([row(1, 3)])
        engine.cancel(first)
        await ends(second)
        return first[0].events.qsize()

    assert asyncio.run(run()) < 240
    assert engine.metrics.ended.labels("cancelled", "")._value.get() == 1


def test_closing_finishes_what_waits_and_takes_nothing_new(make):
    engine = make(batch=1)

    async def run():
        answers = engine.submit([row(i, 20) for i in range(4)])
        engine.close()
        with pytest.raises(Down, match="shutting down"):
            engine.submit([row(9)])
        return await ends(answers)

    assert asyncio.run(run()) == ["length"] * 4
    engine.join()


def test_a_broken_engine_tells_everybody(make, monkeypatch):
    engine = make(batch=1)
    step = RunningBatch.step

    def breaks(self):
        if self._rows and len(self._rows[0].made) > 3:
            raise RuntimeError("no memory")
        return step(self)

    monkeypatch.setattr(RunningBatch, "step", breaks)

    async def run():
        reasons = await ends(engine.submit([row(0, 50), row(1, 50)]))
        with pytest.raises(Down, match="RuntimeError: no memory"):
            engine.submit([row(2)])
        return reasons

    assert asyncio.run(run()) == ["failed", "failed"]
    assert "no memory" in engine.fault


def test_a_long_prompt_does_not_join_together_with_others(make):
    engine = make(batch=4)
    engine.limits = Limits(batch=4, queue=8, seconds=60, prefill=64)

    async def run():
        return await ends(engine.submit([row(0, prompt=60), row(1, prompt=5), row(2, prompt=5)]))

    assert asyncio.run(run()) == ["length"] * 3
