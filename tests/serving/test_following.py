"""A new champion takes the old one's place, which then leaves nothing behind."""

import gc
import threading
import time
import weakref
from dataclasses import replace

import pytest

from bonesoup.generation.soup import SoupModel
from bonesoup.serving import following as watching
from bonesoup.serving.engine import Engine, Limits
from bonesoup.serving.live import Bounds, Live
from bonesoup.serving.metrics import Metrics
from bonesoup.serving.source import from_folder


@pytest.fixture
def load(version):
    source = from_folder(version)

    def make(number: str) -> Live:
        main, *others = source.soups.values()
        engine = Engine(SoupModel.load(main, beside=others), Limits(batch=4, queue=4, seconds=30), Metrics())
        return Live(replace(source, version=number), engine, Bounds(64, 32))

    return make


def until(true, seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.01)
    return true()


def test_the_old_model_is_freed_when_the_new_one_serves(load, monkeypatch):
    monkeypatch.setattr(watching, "LOOK", 0.01)
    following = watching.Following(load("1"))
    old = weakref.ref(following.live.engine.policy.model)
    said = []
    following.follow(lambda: "2", lambda: load("2"), said.append)
    assert until(lambda: following.live.source.version == "2")
    assert until(lambda: gc.collect() is not None and old() is None), "the old model is still in memory"
    following.stop()
    following.live.engine.close()
    assert len(said) == 1


def test_a_version_that_cannot_be_loaded_is_reported_once_and_tried_less_and_less_often(load, monkeypatch):
    monkeypatch.setattr(watching, "LOOK", 0.1)
    following = watching.Following(load("1"))
    tried, said, enough = [], [], threading.Event()

    def broken() -> Live:
        tried.append(time.monotonic())
        if len(tried) == 5:
            enough.set()
        raise ValueError("its files are not as registered")

    following.follow(lambda: "2", broken, said.append)
    assert enough.wait(20)
    following.stop()
    assert following.live.source.version == "1"
    assert following.live.engine.fault is None
    assert len(said) == 1
    assert "its files are not as registered" in said[0]
    assert tried[4] - tried[3] > 2 * (tried[1] - tried[0])
    following.live.engine.close()


def test_a_look_does_not_wait_for_the_interval(load, monkeypatch):
    monkeypatch.setattr(watching, "LOOK", 600)
    following = watching.Following(load("1"))
    following.follow(lambda: "2", lambda: load("2"), lambda line: None)
    following.look()
    assert until(lambda: following.live.source.version == "2", 5)
    following.stop()
    following.live.engine.close()
