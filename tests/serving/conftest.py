"""Soups to serve, of two objectives and of three, and a browser that visits their desks."""

import shutil
from contextlib import ExitStack

import pytest
from soup_server import make_version, serving

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
ARGUMENTS += ["--disable-component-update", "--disable-sync"]


@pytest.fixture(scope="session")
def version(tmp_path_factory):
    """Write the files of a soup of two objectives, words as tokens."""
    return make_version(tmp_path_factory.mktemp("two") / "bonesoup-soup-1", ["helpful", "harmless"])


@pytest.fixture(scope="session")
def version3(tmp_path_factory):
    """Write those of three objectives, with a byte-level tokenizer, nothing measured."""
    folder = tmp_path_factory.mktemp("three") / "bonesoup-soup-2"
    return make_version(folder, ["helpful", "harmless", "humor"], tokenizer="bpe", measured=False)


@pytest.fixture(scope="module")
def metrics():
    from bonesoup.serving.metrics import Metrics

    return Metrics()


@pytest.fixture(scope="module")
def live(version, metrics):
    """Serve the soup of two objectives in this process."""
    from bonesoup.generation.soup import SoupModel
    from bonesoup.serving.engine import Engine, Limits
    from bonesoup.serving.live import Bounds, Live
    from bonesoup.serving.source import from_folder

    source = from_folder(version)
    main, *others = source.soups.values()
    engine = Engine(SoupModel.load(main, beside=others), Limits(batch=4, queue=4, seconds=30), metrics)
    yield Live(source, engine, Bounds(64, 32))
    engine.close()
    engine.join()


@pytest.fixture(scope="module")
def browser():
    # Only the desk's tests need it.
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    assert chromium, "these tests need Debian's package chromium"
    with sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def two(version, tmp_path_factory):
    with serving(version, cwd=tmp_path_factory.mktemp("here")) as running:
        yield running.url


@pytest.fixture(scope="module")
def three(version3, tmp_path_factory):
    with serving(version3, cwd=tmp_path_factory.mktemp("here")) as running:
        yield running.url


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Start a server of a measured soup with n objectives; its address."""
    with ExitStack() as servers:

        def measured(n: int) -> str:
            folder = tmp_path_factory.mktemp("measured")
            names = ["helpful", "harmless", "humor", "brevity", "factuality"][:n]
            return servers.enter_context(serving(make_version(folder / "soup", names), cwd=folder)).url

        yield measured


@pytest.fixture
def visit(browser):
    """Open a page that must not complain nor ask anybody else; (page, context) are closed and checked afterwards."""
    visits = []

    def visit(url: str, **options):
        context = browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | options))
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        page = context.new_page()
        seen = {"errors": [], "requests": []}
        # The browser itself notes every status that is an error, also one the page deals with.
        page.on(
            "console",
            lambda message: (
                message.type == "error"
                and not message.text.startswith("Failed to load resource")
                and seen["errors"].append(message.text)
            ),
        )
        page.on("pageerror", lambda error: seen["errors"].append(str(error)))
        page.on("request", lambda request: seen["requests"].append(request.url))
        page.goto(url)
        visits.append((context, seen, url))
        return page

    yield visit
    for context, seen, url in visits:
        context.close()
        assert seen["errors"] == []
        origin = "/".join(url.split("/")[:3])
        assert all(request.startswith((origin, "blob:", "data:")) for request in seen["requests"])
