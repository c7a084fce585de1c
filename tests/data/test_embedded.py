"""The generator: its truth, its noise, its sizes and its determinism."""

import math

import numpy as np
import pytest

from bonesoup.data import embedded
from bonesoup.data.gold import gold
from bonesoup.data.words import TABLES, load
from bonesoup.settings.schema import Sizes

SIZES = Sizes(sft=400, pairs=4000, prompts=512)


@pytest.fixture(scope="module")
def records():
    return embedded.generate(TABLES, ["helpful", "harmless", "humor", "brief"], SIZES, seed=3)


def text(row):
    return row["prompt"][0]["content"]


def test_helpful_and_harmless_conflict():
    for seed in range(3):
        assert -0.9 < embedded.conflict(samples=4000, seed=seed)[0, 1] < -0.7


@pytest.mark.parametrize("objective", ["helpful", "harmless", "humor", "brief"])
def test_labels_are_as_noisy_as_the_sigmoid(records, objective):
    """P(the better of a pair is chosen) = sigmoid(|gold difference| / .15), bin by bin."""
    rows = records.rewards[objective]
    scores = [(gold(text(r), r["chosen"])[objective], gold(text(r), r["rejected"])[objective]) for r in rows]
    difference = np.array([a - b for a, b in scores])
    for low, high in ((0.02, 0.1), (0.1, 0.2), (0.2, 0.4), (0.4, 3.0)):
        chosen = difference[(abs(difference) >= low) & (abs(difference) < high)]
        expected = np.mean(1 / (1 + np.exp(-abs(chosen) / 0.15)))
        error = 4 * math.sqrt(expected * (1 - expected) / len(chosen)) + 1e-3
        assert np.mean(chosen > 0) == pytest.approx(expected, abs=error)


def test_sizes_and_lengths(records):
    assert (len(records.prompts), len(records.sft)) == (512, 400)
    assert len({text({"prompt": prompt}) for prompt in records.prompts}) == 512
    assert all(len(prompt[0]["content"].split()) == 5 for prompt in records.prompts)
    assert all(1 <= len(row["response"].split()) <= 15 for row in records.sft)
    replies = [row[side] for rows in records.rewards.values() for row in rows for side in ("chosen", "rejected")]
    lengths = np.array([len(reply.split()) for reply in replies])
    assert lengths.min() >= 1
    assert lengths.max() == 16  # endless: no room for the end
    vocabulary = set(load().vocabulary)
    assert {word for reply in replies for word in reply.split()} <= vocabulary


def test_degenerate_responses_are_among_the_pairs(records):
    """Without them a reward model is hacked at once (docs/embedded-task.md)."""

    def share(objective, test):
        rows = records.rewards[objective]
        return np.mean([test(row["chosen"]) or test(row["rejected"]) for row in rows])

    words = load()
    endless = lambda reply: len(reply.split()) == 16  # noqa: E731
    repeated_joke = lambda reply: any(reply.count(joke) > 1 for joke in words.jokes)  # noqa: E731
    repeated = lambda reply: any(reply.split().count(word) > 2 for word in words.details)  # noqa: E731
    assert share("helpful", endless) > 0.1
    assert share("helpful", repeated) > 0.05
    assert share("humor", repeated_joke) > 0.15
    assert not any(repeated_joke(row["response"]) or endless(row["response"]) for row in records.sft)


def test_the_same_seed_makes_the_same_rows(records):
    again = embedded.generate(TABLES, ["helpful", "harmless", "humor", "brief"], SIZES, seed=3)
    assert again == records
    other = embedded.generate(TABLES, ["helpful", "harmless", "humor", "brief"], SIZES, seed=4)
    assert other.sft != records.sft


def test_an_objective_more_leaves_the_others_as_they_were(records):
    two = embedded.generate(TABLES, ["helpful", "harmless"], SIZES, seed=3)
    assert two.sft == records.sft
    assert two.rewards["harmless"] == records.rewards["harmless"]


def test_no_reward_model_agrees_with_the_labels_more_often_than_gold_is_expected_to():
    """Labels are drawn with a known probability, so the measured agreement lies near its expectation."""
    agree, best, longer = embedded.ceiling("helpful", samples=2000)
    assert best - 0.04 < agree < best + 3 * (best * (1 - best) / 2000) ** 0.5
    assert longer == pytest.approx(0.45, abs=0.03)
    assert embedded.ceiling("brief", samples=2000)[2] < 0.3


def test_impossible_requests_are_refused():
    with pytest.raises(ValueError, match="only 5120 different prompts"):
        embedded.generate(TABLES, ["helpful"], Sizes(sft=1, pairs=1, prompts=6000), seed=0)


@pytest.mark.parametrize("key", ["sft", "pairs"])
def test_more_rows_than_there_are_texts_are_refused(key, monkeypatch):
    """With one prompt and few words the texts run out: that is an error, not a loop without end."""
    for name in ("sft_response", "pair_response"):
        monkeypatch.setattr(embedded, name, lambda rng, words, *_: str(rng.choice(words.links)))
    sizes = Sizes(**{"sft": 4, "pairs": 12, "prompts": 1} | {key: 1000})
    with pytest.raises(
        ValueError, match=rf"data\.sizes\.{key} is 1000, .* gave only (4|12) different .* raise data\.siz"
    ):
        embedded.generate(TABLES, ["helpful"], sizes, seed=0)
