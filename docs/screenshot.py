"""Photograph the mixing desk of a running server, answered: on a desktop, on a phone, and in the dark.

    bonesoup serve --demo --port 8123 &
    python docs/screenshot.py http://127.0.0.1:8123/

Writes docs/mixing-desk.png, mixing-desk-phone.png and mixing-desk-dark.png. Needs Debian's chromium.
"""

import argparse
import io
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
QUIET += ["--disable-component-update", "--disable-sync"]
# Milliseconds for a chat model on a busy CPU.
PATIENCE = 300_000
COLOURS = 256
DESKTOP, PHONE = {"width": 1180, "height": 900}, {"width": 390, "height": 844}
LOOKS = {
    "mixing-desk": {"viewport": DESKTOP},
    "mixing-desk-phone": {"viewport": PHONE, "is_mobile": True},
    "mixing-desk-dark": {"viewport": DESKTOP, "color_scheme": "dark"},
}


def main() -> None:
    """Write the pictures."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("url")
    arguments.add_argument("--out", type=Path, default=Path(__file__).parent)
    arguments.add_argument("--prompt", help="by default the first example of the page")
    chosen = arguments.parse_args()
    with sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=shutil.which("chromium"), args=QUIET)
        for name, options in LOOKS.items():
            page = browser.new_context(**options).new_page()
            page.set_default_timeout(PATIENCE)
            page.goto(chosen.url)
            page.locator("body[data-shown]").wait_for()
            page.fill("#prompt", chosen.prompt or page.locator("#examples button").first.inner_text())
            page.press("#prompt", "Enter")
            page.locator("#swept", has_text="tokens in").wait_for()
            page.locator("#stop").wait_for(state="hidden")
            page.evaluate("() => document.activeElement.blur()")
            # A phone shows what fits its screen, where slider and answer meet.
            if options["viewport"] == PHONE:
                page.evaluate("() => document.querySelector('.pick').scrollIntoView()")
            shot = page.screenshot(full_page=options["viewport"] != PHONE)
            picture = Image.open(io.BytesIO(shot)).convert("RGB")
            # The default would blend the small marks in a method's colour with their surroundings.
            picture = picture.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
            picture.save(chosen.out / f"{name}.png", optimize=True)
        browser.close()


if __name__ == "__main__":
    main()
