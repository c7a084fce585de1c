"""The one chat template, and tokenizers made from scratch that carry it.

Training, rewards, evaluation and serving all render messages through the template saved with the tokenizer.
A from-scratch tokenizer gets TEMPLATE; a pretrained one keeps its own, or gets PLAIN where it has none that will do.
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

# For tokenizers to which the marks are ordinary text: the line breaks keep them from growing together with what is
# said, so that a prompt's tokens stay the same whatever follows.
PLAIN = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|' + message.role + '|>\n' + message.content }}"
    "{{ eos_token if message.role == 'assistant' else '\n' }}"
    "{% endfor %}"
    "{{ '<|assistant|>\n' if add_generation_prompt else '' }}"
)

# Before a template that offers thinking (Qwen 3 and its like): off.
WITHOUT_THOUGHT = "{%- set enable_thinking = false %}"


def words_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """One token per whitespace-separated word of `texts`."""
    words = sorted({word for text in texts for word in text.split()})
    vocabulary = {token: index for index, token in enumerate(SPECIAL + words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return _finished(tokenizer)


def bpe_tokenizer(texts: Iterable[str], size: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE of `size` tokens, learned from `texts`; any text round-trips."""
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
    """Complete a pretrained tokenizer: padding on the left, a pad token, a chat template, the end token of its answers.

    A template that can think is told not to: the empty thought belongs to the prompt then, and the answer follows it.

    Returns:
        Whether the chat template is the tokenizer's own, which alone will do for a model that is tuned already.
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

    Some models end a turn with another token than their tokenizer's end token; some templates put a thought before the
    answer. What is sampled, scored and trained on has to be one text.
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
    """Drop the sampling defaults a pretrained model brings (repetition penalty, top-p, several end tokens).

    They would apply wherever generate() is called, so that evaluation would sample from another distribution than
    training does.
    """
    model.generation_config = GenerationConfig(pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id)


def never_sampled(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Special tokens other than the end: decoding drops them, so a reward would not see what is trained on."""
    added = [token for token, entry in tokenizer.added_tokens_decoder.items() if entry.special]
    return sorted({*tokenizer.all_special_ids, *added} - {tokenizer.eos_token_id})


def check_room(tokenizer: PreTrainedTokenizerBase, ids: list[str], texts: list[str], extra: int, what: str) -> None:
    """Refuse texts that do not fit the context, rather than cut a response off unseen.

    Args:
        ids: names of the rows, for the message.
        extra: tokens still to be generated after each text.

    Raises:
        ValueError: naming the longest row, and how many are too long.
    """
    limit = tokenizer.model_max_length - extra
    lengths = [len(row) for row in tokenizer(texts, add_special_tokens=False)["input_ids"]]
    if (longest := max(lengths)) > limit:
        raise ValueError(
            f"{sum(length > limit for length in lengths)} {what} do not fit model.context = "
            f"{tokenizer.model_max_length}: row {ids[lengths.index(longest)]} has {longest} tokens"
            + (f" and {extra} are to be generated" if extra else "")
            + "; raise model.context, or lower data.max_prompt_chars or data.max_response_chars"
        )
