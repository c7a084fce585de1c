"""Tokens into text and text into tokens, the ways a server needs: piece by piece, and safe from its users."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from bonesoup import chat

# No tokenizer makes text with it: U+E000 is for private use.
_MARK = "\ue000"
# The character a decoder puts for bytes that are no whole character yet.
_BROKEN = "\ufffd"


class Pieces:
    """The text of one answer, in the pieces in which it may be sent.

    A piece never holds half a character, nor text that may yet turn out to begin a stop sequence; all pieces
    together are the text up to the first stop sequence.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stops: Sequence[str] = ()):
        self._tokenizer = tokenizer
        self._stops = stops
        self._ids: list[int] = []
        self._sure = 0
        self._whole = ""
        self._sent = 0
        self.stopped = False

    def push(self, token: int | None, last: bool = False) -> str:
        """Take one token in; the text that can be sent now. `last`: nothing follows."""
        if self.stopped:
            return ""
        if token is not None:
            self._ids.append(token)
        self._grow(last)
        found = [(at + len(stop), at) for stop in self._stops if (at := self._whole.find(stop)) >= 0]
        if found:
            # The one that was complete first, however the text was cut into tokens.
            self.stopped = True
            safe = min(found)[1]
        elif last:
            safe = len(self._whole)
        else:
            safe = len(self._whole) - self._held()
        piece = self._whole[self._sent : safe]
        self._sent = max(self._sent, safe)
        return piece

    def _grow(self, last: bool) -> None:
        """Decode what is new beside the tokens before it, whose text some decoders space by."""
        start = max(self._sure - 6, 0)
        before = self._decode(self._ids[start : self._sure])
        after = self._decode(self._ids[start:])
        if last or not after.endswith(_BROKEN):
            self._whole += after[len(before) :]
            self._sure = len(self._ids)

    def _decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def _held(self) -> int:
        """Length of the longest ending that begins a stop sequence."""
        known = len(self._whole)
        lengths = (
            n for stop in self._stops for n in range(min(len(stop) - 1, known), 0, -1) if self._whole.endswith(stop[:n])
        )
        return max(lengths, default=0)


def chat_tokens(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]]) -> list[int]:
    """A conversation through the chat template, up to where the assistant speaks.

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
    """Text as text: without control tokens, whatever it says."""
    control = set(_control(tokenizer).values())
    ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    unknown = tokenizer.unk_token_id
    return [unknown if i in control else i for i in ids if i not in control or unknown is not None]


def _control(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """Special tokens by their text; the unknown token controls nothing."""
    special = {entry.content: i for i, entry in tokenizer.added_tokens_decoder.items() if entry.special}
    special.pop(tokenizer.unk_token, None)
    return special


def _render(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]]) -> str:
    try:
        return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    except Exception as error:
        # Templates raise what they like (jinja2's TemplateError), with a message for whoever wrote the conversation.
        raise ValueError(f"the model's chat template refuses these messages: {error}") from None


def roles(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """The roles that the model knows; one made here has tokens for two."""
    ours = tokenizer.chat_template in (chat.TEMPLATE, chat.PLAIN)
    return ("user", "assistant") if ours else ("system", "user", "assistant")
