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
    """Replace the complaints about each form of a field that has several by one sentence, except for unknown fields."""

    def checked(value, handler):
        try:
            return handler(value)
        except ValidationError as error:
            fault = error.errors()[0]
            if fault["type"] != "unknown_field":
                raise PydanticCustomError("refused", expected) from None
            # Its place begins with the form, which the client has not written.
            place = ".".join(map(str, [*fault["loc"][1:], fault["ctx"]["param"]]))
            raise unknown_field(place, fault["ctx"]["hint"]) from None

    return WrapValidator(checked)


def refused(param: str, text: str, kind: str = "refused") -> PydanticCustomError:
    """Make the error that names the field `param`; braces of a client's text are not placeholders."""
    return PydanticCustomError(kind, "{text}", {"param": param, "text": text})


def whole_characters(text: str) -> str:
    """Refuse half of a surrogate pair: JSON can write it, but it is no character and cannot be tokenised."""
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise PydanticCustomError("refused", "the text holds half of a surrogate pair")
    return text


def unknown_field(param: str, hint: str) -> PydanticCustomError:
    """Make the error of an unknown field; errors.py puts the place of the part it stands in before its name."""
    return PydanticCustomError("unknown_field", "unknown field {param}{hint}", {"param": param, "hint": hint})


def unlike(name: str, known: list[str], likeness: float) -> PydanticCustomError:
    """Make the error of a field that is none of `known`, with the most similar of them.

    Args:
        likeness: how similar a known field must be to be suggested, from 0 to 1, as difflib measures it.
    """
    near = RENAMED.get(name) or next(iter(get_close_matches(name, known, 1, likeness)), None)
    hint = f": did you mean {near}?" if near else ": leave it out"
    return unknown_field(name, hint)


class Nested(BaseModel):
    """A part of a body, whose unknown fields are refused by name."""

    model_config = ConfigDict(extra="forbid")

    # Before: the suggestion must come even if the field that was meant is missing.
    @model_validator(mode="before")
    @classmethod
    def _no_unknown_fields(cls, given):
        known = [field.alias or name for name, field in cls.model_fields.items()]
        for name in given if isinstance(given, dict) else []:
            if name not in known:
                # There are few, so that `usage` can only mean `include_usage`.
                raise unlike(name, known, 0.5)
        return given


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
            raise unlike(name, [*type(self).model_fields, *IGNORED], 0.75)
        return self
