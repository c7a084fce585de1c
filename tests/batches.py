"""Run requests through a batch to their ends."""

from collections.abc import Sequence

from bonesoup.generation.batch import Request, RunningBatch, Token
from bonesoup.generation.soup import SoupModel


def answered(policy: SoupModel, requests: Sequence[Request]) -> dict[str, list[Token]]:
    """Answer requests in one batch; return the tokens of each by its key."""
    batch = RunningBatch(policy)
    made: dict[str, list[Token]] = {each.key: [] for each in requests}
    tokens = batch.join(requests)
    while tokens:
        for token in tokens:
            made[token.key].append(token)
        tokens = batch.step()
    return made
