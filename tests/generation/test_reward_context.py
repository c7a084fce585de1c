"""Rewards in a prompt: the token of each reward, and a text that stays the same before it."""

import numpy as np
import pytest
from transformers import AutoTokenizer

from bonesoup.chat import bpe_tokenizer
from bonesoup.generation.reward_context import LEVELS, context, contexts, in_context, reward_tokens
from bonesoup.generation.sample import render

NAMES = ["helpful", "harmless"]


@pytest.mark.parametrize(
    ("rewards", "text"),
    [
        ([1.5, -0.5], "<helpful:+1.5><harmless:-0.5>"),
        ([0.24, 0.26], "<helpful:+0.0><harmless:+0.5>"),
        ([-0.1, 17.0], "<helpful:+0.0><harmless:+3.0>"),
        ([-9.9, -2.76], "<helpful:-3.0><harmless:-3.0>"),
    ],
)
def test_a_reward_is_its_nearest_level(rewards, text):
    assert context(NAMES, rewards) == text


def test_every_context_is_made_of_the_tokens():
    tokens = reward_tokens(NAMES)
    assert len(set(tokens)) == len(tokens) == 2 * len(LEVELS)
    for rewards in np.random.default_rng(0).normal(0, 3, (200, 2)):
        first, second = context(NAMES, rewards).replace("><", "> <").split()
        assert {first, second} <= set(tokens)


def test_a_preference_asks_for_the_lowest_and_the_highest():
    asked = contexts(NAMES, [[-2.0, -1.0], [2.0, 3.0]], [[0, 1], [0.5, 0.5], [1, 0]])
    assert asked == ["<helpful:-2.0><harmless:+3.0>", "<helpful:+2.0><harmless:+3.0>", "<helpful:+2.0><harmless:-1.0>"]


@pytest.mark.parametrize("kind", ["words", "bpe"])
def test_the_words_before_a_context_keep_their_tokens(kind, tiny_policy, prompts):
    tokenizer = AutoTokenizer.from_pretrained(tiny_policy) if kind == "words" else bpe_tokenizer(["Please chess"], 300)
    plain = tokenizer(render(tokenizer, prompts), add_special_tokens=False)["input_ids"]
    size = len(tokenizer)
    tokenizer.add_tokens(reward_tokens(NAMES), special_tokens=True)
    with_context = [in_context(prompt, context(NAMES, [1, -1])) for prompt in prompts]
    ids = tokenizer(render(tokenizer, with_context), add_special_tokens=False)["input_ids"]
    for before, after in zip(plain, ids, strict=True):
        assert after[: len(before) - 1] == before[:-1]
        assert [token >= size for token in after[len(before) - 1 :]] == [True, True, False]
        assert after[-1] == before[-1]
    assert prompts[0][0]["content"] == "Please explain baking"
