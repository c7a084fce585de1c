"""Conversations on the mixing desk, and what the browser keeps: history, saved preferences, a picture of the front."""

import httpx
import matplotlib.image
import pytest
from desk import ask, plain, shown

pytestmark = pytest.mark.slow
SHOWN = "at=helpful=0.9,harmless=0.1&beside=rewarded&points=5&seed=4"
PREFERENCE = "helpful=0.9,harmless=0.1"


def direct(url: str, messages: list[dict], seed: int = 4) -> str:
    """Return the server's answer at the preference, without the desk."""
    body = {"model": f"bonesoup-soup-1@{PREFERENCE}", "messages": messages, "seed": seed}
    return httpx.post(f"{url}/v1/chat/completions", json=body).json()["choices"][0]["message"]["content"]


def user(text: str) -> dict:
    return {"role": "user", "content": text}


def test_a_reply_continues_the_conversation_with_its_system_prompt(two, visit):
    page = visit(f"{two}/#{SHOWN}")
    shown(page, PREFERENCE)
    page.get_by_text("System prompt", exact=True).click()
    page.get_by_label("System prompt").fill("warm")
    system = {"role": "system", "content": "warm"}
    first = ask(page)[0]
    assert first == direct(two, [system, user("bake mixed stir")])
    page.get_by_role("button", name="Reply to this").first.click()
    assert page.input_value("#prompt") == ""
    assert page.locator("#turns li").all_inner_texts() == ["You\nbake mixed stir", f"Answer\n{first}"]
    assert page.locator(".answer", has_text=first).count() == 0
    second = ask(page, "taste")[0]
    turns = [system, user("bake mixed stir"), {"role": "assistant", "content": first}, user("taste")]
    assert second == direct(two, turns) != direct(two, [system, user("taste")])
    page.get_by_role("button", name="Reply to this").last.click()
    assert page.locator("#turns li").count() == 4
    page.get_by_role("button", name="Take back the last turn").click()
    assert (page.input_value("#prompt"), page.locator("#turns li").count()) == ("taste", 2)
    page.get_by_role("button", name="New conversation").click()
    assert page.locator("#conversation").is_hidden()
    page.get_by_label("System prompt").fill("")
    assert ask(page, "taste")[0] == direct(two, [user("taste")])


def test_regenerate_asks_with_the_next_seed(two, visit):
    page = visit(f"{two}/#{SHOWN}")
    shown(page, PREFERENCE)
    assert page.get_by_role("button", name="Regenerate").is_hidden()
    ask(page)
    page.get_by_role("button", name="Regenerate").click()
    expected = direct(two, [user("bake mixed stir")], seed=5)
    page.locator("#answers .answer").first.filter(has_text=expected).wait_for()
    assert page.input_value("#seed") == "5"


def test_markdown_becomes_elements_and_never_markup(two, visit):
    page = visit(f"{two}/#{SHOWN}")
    shown(page, PREFERENCE)

    def rendered(text: str) -> str:
        return page.evaluate(
            """async (text) => {
              const { markdown } = await import(new URL("assets/markdown.js", location.href));
              const box = document.createElement("div");
              box.append(...markdown(text));
              return box.innerHTML;
            }""",
            text,
        )

    assert rendered("plain\nlines") == "plain\nlines"
    assert rendered("a **b *c*** `<i>`") == "a <strong>b <em>c</em></strong> <code>&lt;i&gt;</code>"
    assert rendered("2 * 3 * 4 and a_b_c") == "2 * 3 * 4 and a_b_c"
    assert rendered("## Head\n\n1. x\n2. y\n- z") == (
        '<p class="heading">Head</p><ol start="1"><li>x</li><li>y</li></ol><ul><li>z</li></ul>'
    )
    assert rendered("> a\n```py\n*b*\n```") == ('<blockquote>a</blockquote><pre tabindex="0"><code>*b*</code></pre>')
    link = '<a href="https://example.org/" rel="noopener noreferrer" target="_blank">x</a>'
    assert rendered("[x](https://example.org/)") == link
    for text in ("<img src=x onerror=alert(1)>", "[x](javascript:alert(1))", "<script>alert(1)</script>"):
        assert rendered(text) == text.replace("<", "&lt;").replace(">", "&gt;")


def test_history_and_saved_preferences_outlive_the_page(two, visit):
    page = visit(f"{two}/#{SHOWN}")
    shown(page, PREFERENCE)
    assert page.locator("#history").is_hidden()
    answer = ask(page)[0]
    page.get_by_role("button", name="Reply to this").first.click()
    second = ask(page, "taste")[0]
    page.get_by_text("Save", exact=True).click()
    page.get_by_label("Name", exact=True).fill("mine")
    page.get_by_role("button", name="Save in this browser").click()
    assert page.get_by_role("button", name="mine", exact=True).get_attribute("aria-pressed") == "true"
    page.goto("about:blank")
    page.goto(f"{two}/#points=0&beside=none")
    shown(page, "helpful=0.5,harmless=0.5")
    page.get_by_role("button", name="mine", exact=True).click()
    shown(page, PREFERENCE)
    page.get_by_role("button", name="balanced").click()
    page.get_by_text("History").click()
    assert page.locator("#asked .take").all_inner_texts() == ["taste", "bake mixed stir"]
    page.locator("#asked .take").first.click()
    shown(page, PREFERENCE)
    assert (page.locator("#turns li").count(), page.input_value("#beside")) == (2, "rewarded")
    assert answer in page.inner_text("#turns")
    page.press("#prompt", "Enter")
    page.locator("#answers .answer").first.filter(has_text=second).wait_for()
    page.get_by_role("button", name="Forget mine").click()
    page.get_by_role("button", name="Forget all").click()
    assert page.locator("#history").is_hidden()
    page.reload()
    shown(page, PREFERENCE)
    assert page.locator("#history").is_hidden()
    assert page.get_by_role("button", name="mine", exact=True).count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_picture_is_the_front_in_the_colours_of_the_page(scheme, two, visit, tmp_path):
    page = visit(f"{two}/#{SHOWN}", color_scheme=scheme)
    shown(page, PREFERENCE)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the front as a picture").click()
    assert download.value.suggested_filename == "bonesoup-soup-1-front.png"
    download.value.save_as(tmp_path / "front.png")
    pixels = (matplotlib.image.imread(tmp_path / "front.png")[..., :3] * 255).round().astype(int)
    plane = page.locator(".plane")
    assert pixels.shape[1] == 2 * (int(plane.get_attribute("viewBox").split()[2]) + 40)
    colours = {
        name: page.evaluate(
            """(name) => {
              const pen = document.createElement("canvas").getContext("2d");
              pen.fillStyle = getComputedStyle(document.body).getPropertyValue(`--${name}`);
              return [1, 3, 5].map((at) => parseInt(pen.fillStyle.slice(at, at + 2), 16));
            }""",
            name,
        )
        for name in ("card", "bone", "rewarded", "sft", "ink")
    }
    for colour in colours.values():
        assert (pixels == colour).all(-1).sum() > 20
    assert (pixels == colours["card"]).all(-1).mean() > 0.6
    assert "helpful 90" in plain(page.inner_text("#who-0"))
