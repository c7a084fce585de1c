"""Ask for rewards, or state a preference, in the prompt: one token per objective and level, after the last message.

A level is half a standard deviation of the SFT policy's responses. Added tokens work with any tokenizer, even one
without numbers, and do not occur in a prompt by chance.
"""

from collections.abc import Sequence

import numpy as np

from bonesoup.method.targets import target_rewards

Messages = list[dict[str, str]]

LEVELS = np.arange(-6, 7) / 2


def reward_tokens(objectives: Sequence[str]) -> list[str]:
    """List every token that a context can hold."""
    return [_token(name, level) for name in objectives for level in LEVELS]


def context(objectives: Sequence[str], rewards: Sequence[float]) -> str:
    """Return the tokens of `rewards` [objective], in SFT standard deviations, each at the nearest level."""
    nearest = [LEVELS[np.abs(LEVELS - reward).argmin()] for reward in rewards]
    return "".join(_token(name, level) for name, level in zip(objectives, nearest, strict=True))


def contexts(objectives: Sequence[str], reach: Sequence[Sequence[float]], preferences: Sequence) -> list[str]:
    """Return the context of each of `preferences` [point, objective]; `reach` is the lowest and the highest rewards."""
    return [context(objectives, rewards) for rewards in target_rewards(preferences, *reach)]


def stated(objectives: Sequence[str], preferences: Sequence) -> list[str]:
    """Return the context of each of `preferences` [point, objective]: weights from 0 to 1 as the lowest to the highest
    level, each at the nearest.
    """
    low, high = LEVELS[0], LEVELS[-1]
    return [context(objectives, low + np.asarray(weights) * (high - low)) for weights in preferences]


def in_context(prompt: Messages, context: str) -> Messages:
    """Append a context to the last message of `prompt`."""
    *before, last = prompt
    return [*before, last | {"content": last["content"] + context}]


def _token(objective: str, level: float) -> str:
    return f"<{objective}:{level:+.1f}>"
