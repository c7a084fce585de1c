"""Brevity: a computed objective, the negative log of the response length."""

import math


def brevity(prompts: list[list[dict[str, str]]], responses: list[str]) -> list[float]:
    """Return -log(1 + words) of each response: halving the length gains the same at any length."""
    return [-math.log1p(len(response.split())) for response in responses]
