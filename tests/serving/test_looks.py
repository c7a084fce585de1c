"""The desk shows every method under the title and in the colours that the report gives it."""

import re

import pytest
from in_process import ask

from bonesoup.method.methods import METHODS
from bonesoup.serving.app import PAGE, application


@pytest.fixture(scope="module")
def sheet(live, metrics) -> str:
    answer = ask(application(lambda: live, metrics), "GET", "/assets/methods.css")
    assert answer.headers["content-type"].startswith("text/css")
    return answer.text


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_a_method_has_the_colours_of_the_report(sheet, method):
    light, dark = sheet.split("prefers-color-scheme: dark")
    for part, colour in zip((light, dark), method.colours, strict=True):
        assert re.findall(rf"--{method.key}: (#\w+);", part) == [colour]
    assert f".{method.key} {{ --c: var(--{method.key}); }}" in dark


def test_served_and_measured_methods_have_their_titles(live, metrics):
    soup = ask(application(lambda: live, metrics), "GET", "/v1/soup").json()
    shown = {*soup["methods"], *soup["front"]["methods"]}
    assert soup["titles"] == {key: METHODS[key].title for key in shown}


@pytest.mark.parametrize("path", sorted(PAGE.glob("*.*")), ids=lambda path: path.name)
def test_the_page_keeps_no_list_of_methods(path):
    text = path.read_text()
    for method in METHODS.values():
        assert f'"{method.title}"' not in text
        assert f"--{method.key}: " not in text
