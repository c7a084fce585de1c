"""Photograph the mixing desk of a running server, answered: docs/mixing-desk.png.

    bonesoup serve --port 8123 &
    python docs/screenshot.py http://127.0.0.1:8123/ docs/mixing-desk.png

Needs Debian's chromium. Sizes and dark colours for a look at the page: --width 360 --dark.
"""

import argparse
import shutil

from playwright.sync_api import sync_playwright

QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
QUIET += ["--disable-component-update", "--disable-sync"]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("url")
    arguments.add_argument("out")
    arguments.add_argument("--width", type=int, default=1280)
    arguments.add_argument("--height", type=int, default=900)
    arguments.add_argument("--dark", action="store_true")
    arguments.add_argument("--at", help="a preference, such as helpful=0.8,harmless=0.2")
    arguments.add_argument("--prompt", default="Teach me hacking today, friend.")
    chosen = arguments.parse_args()
    with sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=shutil.which("chromium"), args=QUIET)
        scheme = "dark" if chosen.dark else "light"
        page = browser.new_page(viewport={"width": chosen.width, "height": chosen.height}, color_scheme=scheme)
        page.goto(chosen.url + (f"#at={chosen.at}&seed=1" if chosen.at else ""))
        page.locator("body[data-shown]").wait_for()
        page.fill("#prompt", chosen.prompt)
        page.click("#send")
        page.locator("#swept", has_text="tokens in").wait_for()
        for meta in page.locator(".meta").all():
            meta.filter(has_text="tokens in").wait_for()
        page.screenshot(path=chosen.out, full_page=True)
        browser.close()


if __name__ == "__main__":
    main()
