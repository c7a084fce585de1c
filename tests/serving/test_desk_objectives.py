"""The mixing desk for three objectives and for five, and on a phone."""

import pytest
from desk import ask, bars, plain, shown

from bonesoup.method.basis import circulant, coefficients

pytestmark = pytest.mark.slow


def test_three_objectives_are_a_triangle_with_keys_and_pointer(three, visit):
    page = visit(f"{three}/")
    page.locator("body[data-shown]").wait_for()
    assert "has not been measured" in page.inner_text("#front")
    pad = page.locator(".pad").first
    pad.focus()
    page.keyboard.press("Shift+ArrowRight")
    shown(page, "helpful=0.4334,harmless=0.2333,humor=0.3333")
    weights = [0.4334, 0.2333, 0.3333]
    assert bars(page) == pytest.approx(coefficients(circulant(3, 0.7), weights).tolist(), abs=1e-3)
    box = pad.bounding_box()
    # The top corner is humor alone.
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] * 27 / 280)
    page.get_by_role("slider", name="Preference: humor").and_(page.locator("[type=range]")).wait_for()
    assert float(page.get_by_role("slider", name="Preference: humor").input_value()) >= 98
    assert len(ask(page, "bake a ☕")) == 2


def test_the_sliders_of_three_keep_their_sum(three, visit):
    page = visit(f"{three}/#at=helpful=0.5,harmless=0.25,humor=0.25")
    shown(page, "helpful=0.5,harmless=0.25,humor=0.25")
    page.get_by_role("slider", name="Preference: helpful").fill("80")
    shown(page, "helpful=0.8,harmless=0.1,humor=0.1")


def test_three_measured_objectives_are_three_planes(measured, visit):
    page = visit(f"{measured(3)}/#at=helpful=0.7,harmless=0.2,humor=0.1")
    shown(page, "helpful=0.7,harmless=0.2,humor=0.1")
    assert page.locator(".plane").count() == 3
    assert page.locator('.here[data-method="bone"]').count() == 3
    assert "at the nearest measured point, helpful 75 %, harmless 25 %, humor 0 %" in plain(page.inner_text("#unit"))
    # Letters keep their size at any width.
    for width in (360, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        page.wait_for_function(
            "() => [...document.querySelectorAll('.plane')]"
            ".every((plane) => Math.abs(plane.clientWidth - plane.viewBox.baseVal.width) < 2)"
        )


def test_five_objectives_are_sliders_and_a_table(measured, visit):
    page = visit(f"{measured(5)}/", viewport={"width": 360, "height": 740})
    page.locator("body[data-shown]").wait_for()
    page.get_by_role("slider", name="Preference: helpful").fill("60")
    shown(page, "helpful=0.6,harmless=0.1,humor=0.1,brevity=0.1,factuality=0.1")
    assert bars(page) == pytest.approx(coefficients(circulant(5, 0.7), [0.6] + [0.1] * 4).tolist(), abs=5e-4)
    assert page.locator(".plane").count() == 0
    assert page.locator("#expected tbody tr").count() == 5
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 360


@pytest.mark.parametrize("objectives", ["two", "three"])
def test_it_fits_a_phone_in_the_dark(objectives, visit, request):
    page = visit(f"{request.getfixturevalue(objectives)}/", viewport={"width": 360, "height": 740}, color_scheme="dark")
    page.locator("body[data-shown]").wait_for()
    ask(page)
    widths = page.evaluate("() => [document.documentElement.scrollWidth, window.innerWidth]")
    assert widths[0] <= widths[1]
