"""Soups to serve: two objectives and three."""

import pytest
from soup_server import make_version


@pytest.fixture(scope="session")
def version(tmp_path_factory):
    """Files of a soup of two objectives, words as tokens."""
    return make_version(tmp_path_factory.mktemp("two") / "bonesoup-soup-1", ["helpful", "harmless"])


@pytest.fixture(scope="session")
def version3(tmp_path_factory):
    """Three objectives, a byte-level tokenizer, nothing measured."""
    folder = tmp_path_factory.mktemp("three") / "bonesoup-soup-2"
    return make_version(folder, ["helpful", "harmless", "humor"], tokenizer="bpe", measured=False)
