"""The desk by axe's rules (WCAG 2.2 A and AA, and best practice), empty and with everything open."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from desk import ask, shown

pytestmark = pytest.mark.slow
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_axe_has_nothing_to_complain_about(size, scheme, two, visit):
    page = visit(f"{two}/#at=helpful=0.9,harmless=0.1&points=5&seed=4", viewport=size, color_scheme=scheme)
    shown(page, "helpful=0.9,harmless=0.1")

    def check() -> None:
        results = Axe().run(page, options={"runOnly": RULES, "resultTypes": ["violations"]})
        assert results.violations_count == 0, results.generate_report()

    check()
    ask(page)
    page.get_by_text("Save", exact=True).click()
    page.get_by_label("Name", exact=True).fill("mine")
    page.get_by_role("button", name="Save in this browser").click()
    page.get_by_role("button", name="Reply to this").first.click()
    ask(page)
    for closed in page.locator("details:visible").all():
        closed.evaluate("(details) => { details.open = true; }")
    check()
    page.select_option("#beside", "second")
    page.locator("#second").wait_for()
    check()
