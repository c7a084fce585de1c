"""Decide on the league's champion as the commands do, and damage its versions."""

import shutil
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from decisions import RULE

from bonesoup.promotion import champion, rule
from bonesoup.promotion.promote import promote
from bonesoup.promotion.scoring import Machine


@pytest.fixture(scope="session")
def project(miniature):
    return miniature


@pytest.fixture
def decide(league, tmp_path):
    """Return decide("2", force=..., ...), which decides as `bonesoup promote` does."""

    def call(version=None, applied=None, echo=lambda line: None, **options):
        applied = applied or rule.load(RULE)
        with tempfile.TemporaryDirectory(dir=tmp_path) as work:
            machine = Machine("cpu", 8, Path(work))
            return promote(league.store, league.uri, league.prefix, applied, version, machine, echo, **options)

    return call


@pytest.fixture
def back(league, tmp_path):
    """Return back("why"), which goes back as `bonesoup rollback` does."""

    def call(reason=None):
        with tempfile.TemporaryDirectory(dir=tmp_path) as work:
            return champion.rollback(league.store, league.uri, league.prefix, reason, Path(work), lambda line: None)

    return call


@pytest.fixture
def files(league):
    """Return files("2"): the folder of a version in the store; undo what a test does to it."""
    kept = []

    def folder(version: str, model: str = league.model) -> Path:
        name = league.store.client.get_model_version(model, version).source.removeprefix("models:/")
        path = Path(urlsplit(league.store.client.get_logged_model(name).artifact_location).path)
        copy = path.with_name(f"{path.name}.kept")
        shutil.copytree(path, copy)
        kept.append((path, copy))
        return path

    yield folder
    for path, copy in kept:
        shutil.rmtree(path, ignore_errors=True)
        copy.rename(path)


@pytest.fixture
def untagged(league):
    """Return untagged("1", tag): make a version what it was before there was this tag."""
    client, taken = league.store.client, []

    def take(version: str, tag: str) -> None:
        taken.append((version, tag, client.get_model_version(league.model, version).tags[tag]))
        client.delete_model_version_tag(league.model, version, tag)

    yield take
    for version, tag, value in taken:
        client.set_model_version_tag(league.model, version, tag, value)
