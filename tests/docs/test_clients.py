"""docs/clients.md shows the code that bench/clients.py ran, for every client it knows."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/clients.md").read_text()


@pytest.fixture(scope="module")
def clients():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "bench")
        yield pytest.importorskip("clients")


def test_every_client_has_a_row_with_something_that_works(clients):
    rows = dict(re.findall(r"^\| ([^|]+) \| [\d.]+ \| ([^|]*) \|", PAGE, re.MULTILINE))
    assert set(rows) == {client.title for client in clients.CLIENTS}
    assert all(rows.values())


def test_the_code_on_the_page_is_the_code_that_ran(clients):
    for client in clients.CLIENTS:
        assert clients.section(client) in PAGE
    assert PAGE.startswith(clients.INTRO)
    assert clients.NOTES in PAGE
