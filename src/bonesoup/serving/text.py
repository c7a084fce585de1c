"""Tokens into text piece by piece, and text into tokens in a way that is safe from its users."""

import re
from collections.abc import Sequence

from tokenizers.decoders import DecodeStream
from transformers import PreTrainedTokenizerBase
from transformers.convert_slow_tokenizer import bytes_to_unicode

from bonesoup import chat

# No tokenizer produces this character: U+E000 is for private use.
_MARK = "\ue000"
# Decoders write this character for bytes that do not form a whole character yet.
_BROKEN = "\ufffd"
# SentencePiece's mark of the space before a word.
_SPACE = "\u2581"
# The bytes by the characters with which byte-level vocabularies write them.
_BYTES = {character: byte for byte, character in bytes_to_unicode().items()}


class Pieces:
    """The text of one answer, split into pieces that can be sent.

    A piece never ends in half a character or in the possible beginning of a stop sequence; together the pieces are the
    text up to the first stop sequence.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stops: Sequence[str] = ()):
        self._tokenizer = tokenizer.backend_tokenizer
        self._decoder = DecodeStream(skip_special_tokens=True)
        self._stops = stops
        self._ids: list[int] = []
        self._whole = ""
        self._sent = 0
        self.stopped = False

    def push(self, token: int | None, last: bool = False) -> str:
        """Add a token, and return the text that can be sent now. `last`: no token follows."""
        if self.stopped:
            return ""
        if token is not None:
            self._ids.append(token)
            self._whole += self._decoder.step(self._tokenizer, token) or ""
        if last:
            # The bytes of an incomplete character.
            self._whole = self._tokenizer.decode(self._ids, skip_special_tokens=True)
        ends = [(at + len(stop), at) for stop in self._stops if (at := self._whole.find(stop)) >= 0]
        if ends:
            # The stop sequence that was completed first, however the text splits into tokens.
            self.stopped = True
            safe = min(ends)[1]
        elif last:
            safe = len(self._whole)
        else:
            safe = len(self._whole) - self._held()
        piece = self._whole[self._sent : safe]
        self._sent = max(self._sent, safe)
        return piece

    def _held(self) -> int:
        """Measure the longest ending that begins a stop sequence."""
        known = len(self._whole)
        lengths = (
            n for stop in self._stops for n in range(min(len(stop) - 1, known), 0, -1) if self._whole.endswith(stop[:n])
        )
        return max(lengths, default=0)


def chat_tokens(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]]) -> list[int]:
    """Render a conversation through the chat template, up to where the assistant speaks, as token ids.

    What people write never becomes a control token: "<|end|>" in a message is text, or where the vocabulary has no
    other way to write it, the unknown token.

    Raises:
        ValueError: the template refuses the conversation.
    """
    contents = [message["content"] for message in messages]
    control = _control(tokenizer)
    if not any(name in content for name in control for content in contents):
        return tokenizer(_render(tokenizer, messages), add_special_tokens=False)["input_ids"]
    marked = [message | {"content": f"{_MARK}{i}{_MARK}"} for i, message in enumerate(messages)]
    ids = []
    for place, part in enumerate(_render(tokenizer, marked).split(_MARK)):
        if place % 2:
            ids += plain_tokens(tokenizer, contents[int(part)])
        else:
            ids += tokenizer(part, add_special_tokens=False)["input_ids"]
    return ids


def plain_tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Tokenise text without control tokens, whatever it says."""
    control = set(_control(tokenizer).values())
    ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    unknown = tokenizer.unk_token_id
    return [unknown if i in control else i for i in ids if i not in control or unknown is not None]


def _control(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """Map special tokens from their text; the unknown token controls nothing."""
    special = {entry.content: i for i, entry in tokenizer.added_tokens_decoder.items() if entry.special}
    special.pop(tokenizer.unk_token, None)
    return special


def _render(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]]) -> str:
    try:
        return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    except Exception as error:
        # Templates raise errors of their choice (jinja2's TemplateError), with a message for the conversation's author.
        raise ValueError(f"the model's chat template refuses these messages: {error}") from None


def knows_system(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Return True if the chat template has a place for system messages."""
    if tokenizer.chat_template in (chat.TEMPLATE, chat.PLAIN):
        # These templates render any role, as a mark that the model has never seen.
        return False
    probe = [{"role": "system", "content": _MARK}, {"role": "user", "content": "a"}]
    try:
        return _MARK in _render(tokenizer, probe)
    except ValueError:
        return False


def fold_system(messages: list[dict[str, str]]) -> list[dict[str, str]]:
    """Put the text of system messages in front of the next user's turn, a blank line between."""
    folded: list[dict[str, str]] = []
    pending: list[str] = []
    for message in messages:
        if message["role"] == "system":
            pending.append(message["content"])
        elif message["role"] == "user":
            folded.append(message | {"content": "\n\n".join([*pending, message["content"]])})
            pending = []
        else:
            folded.append(message)
    return [*folded, {"role": "user", "content": "\n\n".join(pending)}] if pending else folded


def token_text(tokenizer: PreTrainedTokenizerBase, token: int) -> str:
    """Write one token as text, with its leading space; a part of a character as the vocabulary writes it."""
    # A model may have more embedding rows than its tokenizer has tokens.
    written = tokenizer.convert_ids_to_tokens(token) or ""
    text = tokenizer.decode([token], clean_up_tokenization_spaces=False)
    if _BROKEN in text or not text:
        return written.replace(_SPACE, " ")
    # Alone, the first word of a text loses the space before it.
    return f" {text}" if written.startswith(_SPACE) and not text.startswith(" ") else text


def token_bytes(tokenizer: PreTrainedTokenizerBase, token: int) -> list[int] | None:
    """Return the bytes of `token_text`; None if it is part of a character and the vocabulary does not say which."""
    if _BROKEN not in tokenizer.decode([token], clean_up_tokenization_spaces=False):
        return list(token_text(tokenizer, token).encode())
    written = tokenizer.convert_ids_to_tokens(token)
    # SentencePiece's byte, such as <0xE4>.
    if byte := re.fullmatch("<0x([0-9A-F]{2})>", written):
        return [int(byte[1], 16)]
    try:
        return [_BYTES[character] for character in written]
    except KeyError:
        return None
