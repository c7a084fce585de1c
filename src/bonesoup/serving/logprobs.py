"""Log-probabilities of tokens in the forms of OpenAI's two APIs."""

from collections.abc import Sequence
from itertools import accumulate

from transformers import PreTrainedTokenizerBase

from bonesoup.generation.sampling import Likelihood
from bonesoup.serving.text import token_bytes, token_text


def chat_logprobs(tokenizer: PreTrainedTokenizerBase, likely: Sequence[Likelihood]) -> dict:
    """Write log-probabilities as /v1/chat/completions does."""

    def entry(token: int, logprob: float) -> dict:
        return {"token": token_text(tokenizer, token), "bytes": token_bytes(tokenizer, token), "logprob": logprob}

    content = [entry(each.id, each.logprob) | {"top_logprobs": [entry(*pair) for pair in each.top]} for each in likely]
    return {"content": content, "refusal": None}


def text_logprobs(tokenizer: PreTrainedTokenizerBase, likely: Sequence[Likelihood], first: int | None) -> dict:
    """Write log-probabilities as /v1/completions does.

    Args:
        first: the first token of an echoed prompt, of which the model says nothing.
    """
    tokens = [token_text(tokenizer, each.id) for each in likely]
    logprobs: list[float | None] = [each.logprob for each in likely]
    top: list[dict[str, float] | None] = [
        {token_text(tokenizer, token): value for token, value in ((each.id, each.logprob), *each.top)}
        for each in likely
    ]
    if first is not None:
        tokens, logprobs, top = [token_text(tokenizer, first), *tokens], [None, *logprobs], [None, *top]
    offsets = list(accumulate(map(len, tokens[:-1]), initial=0))
    return {"tokens": tokens, "token_logprobs": logprobs, "top_logprobs": top, "text_offset": offsets}
