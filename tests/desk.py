"""Steps that the tests of the mixing desk share."""


def shown(page, preference: str) -> None:
    page.locator(f'body[data-shown="{preference}"]').wait_for()


def plain(text: str) -> str:
    return text.replace("\u00a0", " ").replace("−", "-")


def bars(page) -> list[float]:
    return [float(text.replace("−", "-")) for text in page.locator("#mix b").all_inner_texts()]


def ask(page, prompt: str = "bake mixed stir") -> list[str]:
    page.fill("#prompt", prompt)
    page.press("#prompt", "Enter")
    cards = page.locator("#answers > :not([hidden])")
    for card in cards.all():
        card.locator(".meta", has_text="tokens in").wait_for()
    return cards.locator(".answer").all_inner_texts()
