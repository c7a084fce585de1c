"""Rewards in a prompt's context: one token per objective and level, after the words of the last message.

A level is half a standard deviation of the SFT policy's own responses. Tokens of their own serve any tokenizer, one
that knows no numbers included, and cannot be met in a prompt by chance.
"""

from collections.abc import Sequence

import numpy as np

from bonesoup.method.targets import target_rewards

Messages = list[dict[str, str]]

LEVELS = np.arange(-6, 7) / 2


def reward_tokens(objectives: Sequence[str]) -> list[str]:
    """Every token that a context can hold."""
    return [_token(name, level) for name in objectives for level in LEVELS]


def context(objectives: Sequence[str], rewards: Sequence[float]) -> str:
    """The tokens of `rewards` [objective], in SFT standard deviations, each at its nearest level."""
    nearest = [LEVELS[np.abs(LEVELS - reward).argmin()] for reward in rewards]
    return "".join(_token(name, level) for name, level in zip(objectives, nearest, strict=True))


def contexts(objectives: Sequence[str], reach: Sequence[Sequence[float]], preferences: Sequence) -> list[str]:
    """The context of each of `preferences` [point, objective]; `reach` holds the lowest and the highest rewards."""
    return [context(objectives, rewards) for rewards in target_rewards(preferences, *reach)]


def in_context(prompt: Messages, context: str) -> Messages:
    """`prompt` with a context after its last message."""
    *before, last = prompt
    return [*before, last | {"content": last["content"] + context}]


def _token(objective: str, level: float) -> str:
    return f"<{objective}:{level:+.1f}>"
