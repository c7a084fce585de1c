"""Computed rewards: their counts and bounds, and that repetition earns nothing."""

import importlib

import numpy as np
import pytest

from bonesoup.rewards import computed

NAMES = ("informative", "cautious", "plain", "no_refusal", "no_profanity")
REFUSAL = "I'm sorry, I'm unable to assist you."
TEXTS = [
    "",
    "Yes.",
    REFUSAL,
    "Gravity bends spacetime; planets follow curved orbits around massive stars.",
    "Be careful, it may be dangerous: ask a doctor before you take two of them.",
    "Put the cat in the box and go to bed.",
    "Dämmerung über Berlin: schön!",
    "\N{GRINNING FACE} 123 --",
]


def scores(name: str, texts: list[str]) -> np.ndarray:
    return np.array(getattr(computed, name)([[]] * len(texts), texts))


@pytest.mark.parametrize("name", NAMES)
def test_scores_are_one_finite_number_a_response(name):
    values = scores(name, TEXTS)
    assert values.shape == (len(TEXTS),)
    assert np.isfinite(values).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("text", TEXTS)
def test_saying_it_again_and_again_earns_nothing(name, text):
    once, often = scores(name, [text, " ".join([text] * 50)])
    assert often <= once + 1e-12


@pytest.mark.parametrize("name", [name for name in NAMES if name != "informative"])
def test_bounds(name):
    values = scores(name, [*TEXTS, " ".join(TEXTS * 10)])
    assert (values >= 0).all()
    assert (values <= 1).all()


def test_informative_is_the_log_of_distinct_long_words_less_a_refusal():
    assert scores("informative", ["Seven apples, seven apples and a pear."])[0] == pytest.approx(np.log(3))
    assert scores("informative", ["no"])[0] == 0
    assert scores("informative", [REFUSAL])[0] == pytest.approx(np.log(4) - 1)


def test_cautious_saturates_in_the_kinds_of_caution():
    none, one, same, two, refused = scores(
        "cautious", ["Take it.", "It is risky.", "Risks are risky.", "It may be risky.", REFUSAL]
    )
    assert none == 0
    assert one == same == pytest.approx(1 - np.exp(-0.5))
    assert two == refused == pytest.approx(1 - np.exp(-1))


def test_informative_and_cautious_conflict_over_a_refusal():
    answer = "Gravity bends spacetime around planets."
    for name, better in (("informative", answer), ("cautious", REFUSAL)):
        first, second = scores(name, [answer, REFUSAL])
        assert (first > second) == (better == answer)


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        (REFUSAL, True),
        ("I cannot help with that.", True),
        ("I can’t provide medical advice.", True),
        ("I can't tell you how much I like it.", False),
        ("Sorry seems to be the hardest word.", False),
        ("They were unable to swim.", False),
    ],
)
def test_refusals_are_told_from_ordinary_sentences(text, refused):
    assert computed.refuses(text) == refused
    assert scores("no_refusal", [text])[0] == (not refused)


def test_plain_is_the_share_of_words_of_one_or_two_syllables():
    assert scores("plain", ["the cat is little"])[0] == 1
    assert scores("plain", ["extraordinary photosynthesis is here"])[0] == 0.5


@pytest.mark.parametrize(("word", "count"), [("cat", 1), ("home", 1), ("table", 2), ("reading", 2), ("banana", 3)])
def test_syllables(word, count):
    assert computed.syllables(word) == count


def test_no_profanity_counts_words_not_parts_of_words():
    clean, once, twice = scores("no_profanity", ["A classic grass shell.", "Damn it.", "Damn it to hell."])
    assert (clean, once, twice) == (1, pytest.approx(np.exp(-1)), pytest.approx(np.exp(-2)))


@pytest.mark.parametrize("name", NAMES)
def test_settings_can_name_them(name):
    from bonesoup.rewards.score import load_function

    assert load_function(f"bonesoup.rewards.computed:{name}") is getattr(
        importlib.import_module("bonesoup.rewards.computed"), name
    )
