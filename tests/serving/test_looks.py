"""The desk shows every soup that can be served under the name and in the colours that the report gives it."""

import re
from pathlib import Path

import pytest

import bonesoup.serving
from bonesoup.method.methods import METHODS

PAGE = Path(bonesoup.serving.__file__).with_name("page")
SERVED = [method for method in METHODS.values() if method.servable]


@pytest.mark.parametrize("method", SERVED, ids=lambda method: method.key)
def test_a_served_soup_has_its_name_and_its_colours(method):
    style, script = (PAGE / "desk.css").read_text(), (PAGE / "front.js").read_text()
    assert re.search(rf'\b"?{method.key}"?: "{re.escape(method.title)}"', script)
    assert f".{method.key} {{ --c: var(--{method.key}); }}" in style
    light, dark = re.findall(rf"--{method.key}: (#\w+);", style)
    assert dark == method.colours[1]
    # Darker on white than in a figure, where text has to be read in it.
    assert light == {"rewarded": "#c24e00"}.get(method.key, method.colours[0])
