"""The mixing desk in real Chromium, on a real server: it steers, streams, compares, copies and fits a phone."""

import json
import math
import signal
import statistics
import subprocess
import sys
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import ANY

import httpx
import pytest
from desk import ask, bars, plain, shown
from soup_server import make_project, serving

from bonesoup.method.basis import circulant, coefficients

pytestmark = pytest.mark.slow


def test_the_slider_moves_by_keyboard_and_with_it_coefficients_and_the_point(two, visit):
    page = visit(f"{two}/")
    shown(page, "helpful=0.5,harmless=0.5")
    before = page.locator('.here[data-method="bone"]').get_attribute("cx")
    page.get_by_role("slider", name="Preference").focus()
    for _ in range(30):
        page.keyboard.press("ArrowRight")
    shown(page, "helpful=0.8,harmless=0.2")
    assert bars(page) == pytest.approx(coefficients(circulant(2, 0.7), [0.8, 0.2]).tolist(), abs=5e-4)
    assert bars(page)[1] < 0
    assert "hence the minus" in page.inner_text("#why")
    assert plain(page.inner_text("#sum")) == "1.250 × (0.70, 0.30) - 0.250 × (0.30, 0.70) = (0.80, 0.20)"
    assert float(page.locator('.here[data-method="bone"]').get_attribute("cx")) > float(before)
    expected = httpx.get(f"{two}/v1/soup/coefficients", params={"preference": "helpful=0.8,harmless=0.2"}).json()
    cell = page.locator("#expected tbody tr").first.locator("td").first.inner_text()
    assert f"{expected['expected']['mean'][0]:.2f}".replace("-", "−") in cell
    assert "between two measured points" in page.inner_text("#unit")


def test_answers_are_streamed_beside_the_baseline_and_are_the_servers(two, visit):
    page = visit(f"{two}/#at=helpful=0.9,harmless=0.1&beside=rewarded&seed=4")
    shown(page, "helpful=0.9,harmless=0.1")
    bone, rewarded = ask(page)
    body = {"messages": [{"role": "user", "content": "bake mixed stir"}], "seed": 4, "temperature": 1}
    for text, model in ((bone, "bonesoup-soup-1"), (rewarded, "bonesoup-soup-1/rewarded")):
        ask_for = body | {"model": f"{model}@helpful=0.9,harmless=0.1"}
        answer = httpx.post(f"{two}/v1/chat/completions", json=ask_for).json()
        assert text == answer["choices"][0]["message"]["content"]
    assert bone != rewarded


def test_a_second_preference_has_its_own_control(two, visit):
    page = visit(f"{two}/#at=helpful=1,harmless=0&seed=2")
    shown(page, "helpful=1,harmless=0")
    page.select_option("#beside", "second")
    page.get_by_role("slider", name="Second preference").press("Home")
    first, second = ask(page)
    assert first != second
    assert "helpful 0 %, harmless 100 %" in plain(page.inner_text("#who-1"))
    there = httpx.get(f"{two}/v1/soup/coefficients", params={"preference": "helpful=0,harmless=1"}).json()["expected"]
    assert f"{there['mean'][1]:.2f}" in page.locator("#expected tbody tr").nth(1).locator("td").nth(1).inner_text()
    page.wait_for_function("() => location.hash.includes('second=')")
    page.reload()
    shown(page, "helpful=1,harmless=0")
    assert page.input_value("#beside") == "second"
    page.select_option("#beside", "none")
    assert page.locator("#answers > :not([hidden])").count() == 1


def test_the_copied_curl_and_python_give_the_answer_on_the_page(two, visit, tmp_path):
    page = visit(f"{two}/#at=helpful=0.3,harmless=0.7&seed=9")
    shown(page, "helpful=0.3,harmless=0.7")
    prompt = "bake 'mixed' \"stir\" $(warm) \\ taste"
    answer = ask(page, prompt)[0]
    page.click("#curl")
    page.locator("#done", has_text="curl copied").wait_for()
    copied = page.evaluate("() => navigator.clipboard.readText()")
    done = subprocess.run(["bash", "-c", copied], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["choices"][0]["message"]["content"] == answer
    page.click("#python")
    page.locator("#done", has_text="Python copied").wait_for()
    script = page.evaluate("() => navigator.clipboard.readText()")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == answer + "\n"


def test_the_adapter_is_downloaded_and_the_command_line_shown(two, visit, tmp_path):
    page = visit(f"{two}/#at=helpful=0.3,harmless=0.7")
    shown(page, "helpful=0.3,harmless=0.7")
    with page.expect_download() as download:
        page.click("#adapter")
    assert download.value.suggested_filename == "bonesoup-soup-1-helpful-0.3-harmless-0.7.zip"
    download.value.save_as(tmp_path / "adapter.zip")
    assert "adapter_config.json" in zipfile.ZipFile(tmp_path / "adapter.zip").namelist()
    assert page.inner_text("#line") == "bonesoup soup --preference helpful=0.3,harmless=0.7 --out soups/mine"


def test_a_sweep_is_the_answers_of_its_preferences_side_by_side_with_the_changes_marked(two, visit):
    page = visit(f"{two}/#at=helpful=0.5,harmless=0.5&points=7&seed=4")
    shown(page, "helpful=0.5,harmless=0.5")
    assert page.locator("#strip li").count() == 7
    assert "helpful" in page.locator("#strip .take").first.inner_text()
    page.fill("#prompt", "bake mixed stir")
    page.press("#prompt", "Enter")
    page.locator("#swept", has_text="7 preferences").wait_for()
    texts = page.locator("#strip .answer").all_inner_texts()
    for i, text in enumerate(texts):
        body = {"model": "bonesoup-soup-1", "messages": [{"role": "user", "content": "bake mixed stir"}], "seed": 4}
        body |= {"preference": {"helpful": round(i / 6, 4), "harmless": round(1 - round(i / 6, 4), 4)}}
        answer = httpx.post(f"{two}/v1/chat/completions", json=body).json()
        assert text == answer["choices"][0]["message"]["content"]
    for i in range(1, 7):
        marked = page.locator("#strip .answer").nth(i).locator("mark").all_inner_texts()
        before = texts[i - 1].split()
        assert bool(marked) <= (texts[i] != texts[i - 1])
        assert all(word.strip() not in before or texts[i].split().count(word.strip()) > 0 for word in marked)
    page.locator("#strip .take").last.click()
    shown(page, "helpful=1,harmless=0")


def test_the_answer_follows_the_slider_and_both_are_in_view(two, visit):
    for size in ({"width": 1280, "height": 900}, {"width": 390, "height": 844}):
        page = visit(f"{two}/#at=helpful=0.5,harmless=0.5&seed=2&beside=none", viewport=size)
        shown(page, "helpful=0.5,harmless=0.5")
        ask(page)
        slider = page.get_by_role("slider", name="Preference")
        slider.press("End")
        page.locator("#who-0", has_text="helpful 100").wait_for()
        page.locator("#stop").wait_for(state="hidden")
        answer = page.locator("#answers .answer").first
        body = {"model": "bonesoup-soup-1@helpful=1,harmless=0", "seed": 2}
        body |= {"messages": [{"role": "user", "content": "bake mixed stir"}]}
        expected = httpx.post(f"{two}/v1/chat/completions", json=body).json()["choices"][0]["message"]["content"]
        assert answer.inner_text() == expected
        page.evaluate("() => document.querySelector('.pick').scrollIntoView()")
        for part in (slider.bounding_box(), answer.bounding_box()):
            assert part["y"] >= 0
            assert part["y"] + part["height"] <= size["height"]


def test_an_outcome_chooses_the_preference_and_an_unreachable_one_is_refused(two, visit):
    page = visit(f"{two}/#at=helpful=1,harmless=0&beside=none&points=0")
    shown(page, "helpful=1,harmless=0")
    page.get_by_text("By outcome").click()
    bound = page.get_by_label("harmless at least")
    assert bound.get_attribute("placeholder") == "up to 0.8"
    assert page.get_by_label("helpful at least").is_hidden()
    bound.fill("0.4")
    bound.press("Enter")
    shown(page, "helpful=0.25,harmless=0.75")
    note = page.locator("#outcome .note")
    assert "harmless at least 0.52, with 95 % confidence" in plain(note.inner_text())
    bound.fill("3")
    bound.press("Enter")
    page.locator("#outcome .note.wrong", has_text="the nearest that can is harmless >= 0.8").wait_for()
    shown(page, "helpful=0.25,harmless=0.75")
    page.get_by_label("As much as possible").select_option("harmless")
    assert bound.is_hidden()
    page.get_by_role("button", name="Find").click()
    shown(page, "helpful=0,harmless=1")


def test_answers_are_scored_by_the_runs_rewards_as_means_over_seeds(visit, tmp_path):
    project = make_project(tmp_path / "project", ["helpful", "harmless"])
    with serving(".", cwd=project) as running:
        page = visit(f"{running.url}/#at=helpful=1,harmless=0&points=5&seeds=4&beside=none&seed=2")
        shown(page, "helpful=1,harmless=0")
        (text,) = ask(page)
        page.locator("#swept", has_text="means over 4 seeds").wait_for()
        scored = page.locator("#answers .scores").first.inner_text()
        assert plain(scored).split("\n") == [f"helpful {-math.log1p(len(text.split())):.2f}", ANY]
        notes = page.locator("#strip .scores")
        assert notes.count() == 5
        body = {"model": "bonesoup-soup@helpful=1,harmless=0", "seed": 2, "n": 4, "messages": [{"role": "user"}]}
        body["messages"][0]["content"] = "bake mixed stir"
        choices = httpx.post(f"{running.url}/v1/chat/completions", json=body).json()["choices"]
        scores = [-math.log1p(len(choice["message"]["content"].split())) for choice in choices]
        expected = f"helpful {statistics.mean(scores):.2f} ± {statistics.stdev(scores) / 2:.2f}"
        assert plain(notes.last.inner_text()).split("\n")[0] == expected
        assert choices[0]["message"]["content"] == page.locator("#strip .answer").last.inner_text() == text


def test_a_judges_scores_stand_before_those_of_the_rewards(visit, tmp_path):
    project = make_project(tmp_path / "project", ["helpful", "harmless"], judged=True)
    with serving(".", cwd=project) as running:
        page = visit(f"{running.url}/#at=helpful=1,harmless=0&points=0&beside=none&seed=2")
        shown(page, "helpful=1,harmless=0")
        (text,) = ask(page)
        words = -math.log1p(len(text.split()))
        expected = [
            ["judge:", f"helpful {words / 10:.2f}", f"harmless {words / 10:.2f}"],
            ["learned reward:", f"helpful {words:.2f}", f"harmless {words / 2:.2f}"],
        ]
        page.locator("#answers .scores").nth(1).wait_for()
        lines = page.locator("#answers article").first.locator(".scores").all_inner_texts()
        assert [plain(line).split("\n") for line in lines] == expected


def test_shift_enter_starts_a_line_and_a_wrong_field_is_shown(two, visit):
    page = visit(f"{two}/#at=helpful=0.5,harmless=0.5")
    shown(page, "helpful=0.5,harmless=0.5")
    page.fill("#prompt", "bake")
    page.press("#prompt", "Shift+Enter")
    page.keyboard.type("stir")
    assert page.input_value("#prompt") == "bake\nstir"
    page.evaluate("() => { document.getElementById('temperature').value = '7'; }")
    page.press("#prompt", "Enter")
    assert page.locator("#temperature").is_visible()


def test_the_address_carries_the_view_and_the_answer_follows(two, visit):
    page = visit(f"{two}/#at=helpful=0.9,harmless=0.1&beside=none&seed=3&temperature=0.5&tokens=8&prompt=warm+%26+stir")
    shown(page, "helpful=0.9,harmless=0.1")
    fields = {"#prompt": "warm & stir", "#seed": "3", "#temperature": "0.5", "#tokens": "8", "#beside": "none"}
    assert {field: page.input_value(field) for field in fields} == fields
    page.press("#prompt", "Control+Enter")
    page.locator(".meta", has_text="tokens in").wait_for()
    page.get_by_role("button", name="balanced").click()
    shown(page, "helpful=0.5,harmless=0.5")
    # The answer follows, under its new title.
    page.locator("#who-0", has_text="helpful 50").wait_for()
    page.wait_for_function("() => location.hash.includes('0.5%2Charmless')")
    shared = visit(page.url)
    shown(shared, "helpful=0.5,harmless=0.5")
    assert {field: shared.input_value(field) for field in fields} == fields


def test_the_keyboard_alone_gets_an_answer(two, visit):
    page = visit(f"{two}/#at=helpful=0.9,harmless=0.1")
    shown(page, "helpful=0.9,harmless=0.1")
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.textContent") == "Skip to the prompt"
    page.keyboard.press("Enter")
    page.keyboard.type("bake")
    page.keyboard.press("Control+Enter")
    page.locator(".meta", has_text="tokens in").first.wait_for()
    assert "helpful 90 %" in plain(page.inner_text("#who-0"))
    shown(page, "helpful=0.9,harmless=0.1")


def test_a_silent_a_full_and_a_lost_server_are_reported(version, visit, tmp_path):
    with serving(version, "--batch", "1", "--queue", "1", cwd=tmp_path) as running:
        page = visit(f"{running.url}/#beside=none&points=0&prompt=stir")
        page.locator("body[data-shown]").wait_for()
        running.process.send_signal(signal.SIGSTOP)
        page.click("#send")
        page.click("#stop")
        page.locator(".meta", has_text="stopped").wait_for()
        assert page.locator("#stop").is_hidden()
        running.process.send_signal(signal.SIGCONT)
        full = page.locator(".answer.wrong", has_text="the queue is full")
        over = threading.Event()

        def crowd() -> None:
            body = {"model": "bonesoup-soup-1", "prompt": "stir", "max_tokens": 200}
            while not over.is_set():
                httpx.post(f"{running.url}/v1/completions", json=body, timeout=60)

        with ThreadPoolExecutor(6) as others:
            for _ in range(6):
                others.submit(crowd)
            for _ in range(50):
                page.click("#send")
                page.locator("#stop").wait_for(state="hidden")
                if full.count():
                    break
            over.set()
        assert full.count()
        running.process.kill()
        running.process.wait()
        page.click("#send")
        page.locator(".answer.wrong", has_text="The server does not answer").wait_for()


def test_markup_in_an_error_or_a_prompt_stays_text(two, visit):
    page = visit(f"{two}/")
    page.locator("body[data-shown]").wait_for()
    page.click("summary")
    page.fill("#tokens", "999")
    page.fill("#prompt", "<img src=x onerror=alert(1)>")
    page.click("#send")
    page.locator(".answer.wrong").first.filter(has_text="context of 256").wait_for()
    assert page.locator("main img").count() == 0


def test_a_token_is_asked_for_and_kept_in_the_tab(version, visit, tmp_path):
    with serving(version, cwd=tmp_path, env={"BONESOUP_TOKEN": "s3cret"}) as running:
        page = visit(f"{running.url}/")
        page.get_by_label("This server needs a token").fill("guessed")
        page.keyboard.press("Enter")
        page.locator("#notice", has_text="refused this token").wait_for()
        assert page.locator("#ask").is_hidden()
        page.get_by_label("This server needs a token").fill("s3cret")
        page.get_by_role("button", name="Go on").click()
        page.locator("body[data-shown]").wait_for()
        assert len(ask(page)) == 2
        page.click("#curl")
        assert "s3cret" not in page.evaluate("() => navigator.clipboard.readText()")
