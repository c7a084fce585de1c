"""The chat template, and tokenizers trained from scratch that carry it.

Training, rewards, evaluation and serving all render messages through the template saved with the tokenizer.
A tokenizer made from scratch gets TEMPLATE. A pretrained one keeps its template, or gets PLAIN if that template
does not render an answer as prompt + text + end token.
"""

import re
from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

USER, ASSISTANT, END, PAD, UNKNOWN = "<|user|>", "<|assistant|>", "<|end|>", "<|pad|>", "<|unknown|>"
SPECIAL = [PAD, END, USER, ASSISTANT, UNKNOWN]

TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message.role + '|>' + message.content }}"
    "{% if message.role == 'assistant' %}{{ eos_token }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

# For tokenizers that see the role marks as ordinary text: the line breaks keep a mark from merging with the words next
# to it, so a prompt's tokens do not depend on the answer that follows.
PLAIN = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|' + message.role + '|>\n' + message.content }}"
    "{{ eos_token if message.role == 'assistant' else '\n' }}"
    "{% endfor %}"
    "{{ '<|assistant|>\n' if add_generation_prompt else '' }}"
)

# Put before a template that supports thinking (such as Qwen 3's), to turn it off.
WITHOUT_THOUGHT = "{%- set enable_thinking = false %}"


def words_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Make a tokenizer with one token for each whitespace-separated word of `texts`."""
    words = sorted({word for text in texts for word in text.split()})
    vocabulary = {token: index for index, token in enumerate(SPECIAL + words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return _finished(tokenizer)


def bpe_tokenizer(texts: Iterable[str], size: int) -> PreTrainedTokenizerFast:
    """Train byte-level BPE with `size` tokens on `texts`; any text round-trips."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return _finished(tokenizer)


def _finished(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        unk_token=UNKNOWN,
        additional_special_tokens=[USER, ASSISTANT],
        padding_side="left",
        chat_template=TEMPLATE,
    )


def with_template(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Complete a pretrained tokenizer: left padding, a pad token, a chat template, the end token of its answers.

    If the template supports thinking, thinking is turned off: the empty thought becomes part of the prompt.

    Returns:
        True if the chat template is the tokenizer's, which a model that is already tuned requires.
    """
    tokenizer.padding_side = "left"
    template = tokenizer.chat_template
    if isinstance(template, str) and "enable_thinking" in template and not template.startswith(WITHOUT_THOUGHT):
        tokenizer.chat_template = WITHOUT_THOUGHT + template
    end = _end_of_answers(tokenizer) if template is not None else None
    if end is None:
        fault = "it has none" if template is None else "it does not render an answer as prompt + text + end token"
        print(f"replacing the tokenizer's chat template: {fault}")
        tokenizer.chat_template = PLAIN
    else:
        tokenizer.eos_token = end
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return end is not None


def _end_of_answers(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Find the token with which the chat template ends an answer; None if an answer is not prompt + text + token.

    Some models end a turn with a token that is not their tokenizer's end token, and some templates put a thought before
    the answer. Sampling, scoring and training must all see the same text.
    """
    asked = [{"role": "user", "content": "Why?"}]
    prompt = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    whole = tokenizer.apply_chat_template([*asked, {"role": "assistant", "content": "So."}], tokenize=False)
    answer = re.fullmatch(r"\s*So\.\s*(.*)", whole.removeprefix(prompt), re.DOTALL)
    if answer is None or not whole.startswith(prompt):
        return None
    tokens = {str(token) for token in tokenizer.added_tokens_decoder.values()} | {str(tokenizer.eos_token)}
    return max((token for token in tokens if answer[1].startswith(token)), key=len, default=None)


def only_ours(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Drop the sampling defaults of a pretrained model (repetition penalty, top-p, several end tokens).

    generate() would apply them, so evaluation would sample from a different distribution than training.
    """
    model.generation_config = GenerationConfig(pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id)


def never_sampled(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """List the special tokens other than the end: decoding drops them, so rewards would not see what is trained on."""
    added = [token for token, entry in tokenizer.added_tokens_decoder.items() if entry.special]
    return sorted({*tokenizer.all_special_ids, *added} - {tokenizer.eos_token_id})


def check_context(
    tokenizer: PreTrainedTokenizerBase,
    ids: list[str],
    texts: list[str],
    extra: int,
    what: str,
    context: int | None = None,
) -> None:
    """Refuse texts that do not fit the context, instead of silently cutting off a response.

    Args:
        ids: names of the rows, for the message.
        extra: tokens to be generated after each text.
        what: the texts, for the message.
        context: tokens that a registered model takes; by default `model.context`, which the tokenizer knows.

    Raises:
        ValueError: texts are too long; names the longest row and their number.
    """
    limit = context or tokenizer.model_max_length
    lengths = [len(row) for row in tokenizer(texts, add_special_tokens=False)["input_ids"]]
    if (longest := max(lengths)) + extra > limit:
        name, remedy = "model.context", "raise model.context, or lower data.max_prompt_chars or data.max_response_chars"
        if context:
            name, remedy = "the model's context", "shorten or drop them"
        raise ValueError(
            f"{sum(length + extra > limit for length in lengths)} {what} do not fit {name} = {limit}: "
            f"row {ids[lengths.index(longest)]} has {longest} tokens"
            + (f" and {extra} are to be generated" if extra else "")
            + f"; {remedy}"
        )
