"""The rule for the fields of a body: each is honoured, or changes nothing and is ignored, or is refused by name."""

from difflib import get_close_matches

from pydantic import BaseModel, ConfigDict, ValidationError, WrapValidator, model_validator
from pydantic_core import PydanticCustomError

# Fields that never change an answer.
IGNORED = frozenset(
    ["user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"]
)
# Fields that would change an answer and are not supported, with the values that leave it unchanged.
UNSUPPORTED = {
    "logit_bias": ({}, None),
    "best_of": (1, None),
    "suffix": ("", None),
    "tools": ([], None),
    "functions": ([], None),
    "tool_choice": ("none", "auto", None),
    "function_call": ("none", "auto", None),
    "parallel_tool_calls": (True, False, None),
    "response_format": ({"type": "text"}, None),
    "modalities": (["text"], None),
    "audio": (None,),
    "reasoning_effort": ("none", None),
    "length_penalty": (1, None),
    "typical_p": (1, None),
    "num_beams": (1, None),
    "use_beam_search": (False, None),
    "stop_token_ids": ([], None),
    "bad_words": ([], None),
    "mirostat": (0, None),
    "prompt_logprobs": (None,),
    "add_generation_prompt": (True, None),
    "add_special_tokens": (False, None),
    "continue_final_message": (False, None),
    "chat_template": (None,),
    "truncate_prompt_tokens": (None,),
    "skip_special_tokens": (True, None),
    "include_stop_str_in_output": (False, None),
}
# Fields of other servers, and ours for them.
RENAMED = {
    "max_new_tokens": "max_tokens",
    "num_predict": "max_tokens",
    "n_predict": "max_tokens",
    "repeat_penalty": "repetition_penalty",
    "stop_sequences": "stop",
}


def one_of(expected: str):
    """Replace the complaints about each form of a field that has several by one sentence."""

    def checked(value, handler):
        try:
            return handler(value)
        except ValidationError:
            raise PydanticCustomError("refused", expected) from None

    return WrapValidator(checked)


def refused(param: str, text: str, kind: str = "refused") -> PydanticCustomError:
    """Make the error that names the field `param`; braces of a client's text are not placeholders."""
    return PydanticCustomError(kind, "{text}", {"param": param, "text": text})


def whole_characters(text: str) -> str:
    """Refuse half of a surrogate pair: JSON can write it, but it is no character and cannot be tokenised."""
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise PydanticCustomError("refused", "the text holds half of a surrogate pair")
    return text


class Nested(BaseModel):
    """A part of a body, whose unknown fields are refused by name."""

    model_config = ConfigDict(extra="forbid")


class Strict(BaseModel):
    """A body whose unknown fields are refused by name."""

    model_config = ConfigDict(extra="allow")

    @model_validator(mode="after")
    def _no_unknown_fields(self):
        for name, value in (self.model_extra or {}).items():
            if name in IGNORED or name in UNSUPPORTED and any(value == neutral for neutral in UNSUPPORTED[name]):
                continue
            if name in UNSUPPORTED:
                raise refused(name, f"{name} is not supported: leave it out", "not_supported")
            known = [*type(self).model_fields, *IGNORED]
            near = RENAMED.get(name) or next(iter(get_close_matches(name, known, 1, 0.75)), None)
            hint = f": did you mean {near}?" if near else ": leave it out"
            raise refused(
                name, f"unknown field {name if len(name) <= 60 else name[:57] + '...'}{hint}", "unknown_field"
            )
        return self
