"""A request is honoured, or refused by one sentence that names the field; nothing is ignored that changes an answer."""

import json

import pytest
from pydantic import ValidationError

from bonesoup.serving.protocol import ChatBody, CompletionBody
from bonesoup.serving.responses import ResponseBody
from bonesoup.serving.strict import IGNORED, UNSUPPORTED

CHAT = {"model": "m", "messages": [{"role": "user", "content": "bake"}]}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}


def fault(body, **change) -> tuple[str, str]:
    base = CHAT if body is ChatBody else {"model": "m", "prompt": "bake"}
    with pytest.raises(ValidationError) as caught:
        body(**(base | change))
    error = caught.value.errors()[0]
    place = [*error["loc"], error.get("ctx", {}).get("param")]
    return ".".join(str(part) for part in place if part not in (None, "")), error["msg"]


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("preferance", "preference"),
        ("temprature", "temperature"),
        ("max_tokenz", "max_tokens"),
        ("max_new_tokens", "max_tokens"),
        ("repeat_penalty", "repetition_penalty"),
        ("Preference", "preference"),
    ],
)
def test_an_unknown_field_is_refused_with_the_nearest_known_one(name, near):
    assert fault(ChatBody, **{name: 1}) == (name, f"unknown field {name}: did you mean {near}?")
    # null is no excuse: it would look obeyed.
    assert fault(ChatBody, **{name: None})[0] == name


@pytest.mark.parametrize(
    ("change", "param", "hint"),
    [
        ({"stream_options": {"usage": True}}, "stream_options.usage", "did you mean include_usage?"),
        ({"stream_options": {"x": 1}}, "stream_options.x", "leave it out"),
        ({"response_format": SCHEMA | {"strict": True}}, "response_format.strict", "leave it out"),
        ({"response_format": {"type": "text", "kind": 1}}, "response_format.kind", "leave it out"),
        ({"response_format": SCHEMA | {"json_shema": 1}}, "response_format.json_shema", "did you mean json_schema?"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "shema": {}}}},
            "response_format.json_schema.shema",
            "did you mean schema?",
        ),
    ],
)
def test_an_unknown_field_of_a_part_is_refused_in_the_same_way(change, param, hint):
    place, message = fault(ChatBody, stream=True, **change)
    assert place == param
    assert message.endswith(f": {hint}")


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_an_unsupported_field_is_refused_but_for_the_values_that_change_nothing(name):
    assert fault(CompletionBody, **{name: "other"}) == (name, f"{name} is not supported: leave it out")
    for neutral in UNSUPPORTED[name]:
        ChatBody(**CHAT, **{name: neutral})
        CompletionBody(model="m", prompt="bake", **{name: neutral})


@pytest.mark.parametrize("name", sorted(IGNORED))
def test_a_field_that_changes_nothing_is_accepted(name):
    ChatBody(**CHAT, **{name: "anything"})


@pytest.mark.parametrize(
    ("body", "change", "param", "words"),
    [
        (ChatBody, {"tools": [{"type": "function"}]}, "tools", "not supported"),
        (ChatBody, {"response_format": {"type": "json_object"}}, "response_format", "json_schema"),
        (ChatBody, {"response_format": SCHEMA, "min_tokens": 2}, "min_tokens", "cannot go with a JSON schema"),
        (ChatBody, {"response_format": SCHEMA, "ignore_eos": True}, "ignore_eos", "cannot go with a JSON schema"),
        (ChatBody, {"response_format": SCHEMA, "stop": ","}, "stop", "cannot go with a JSON schema"),
        (ChatBody, {"preference": 0.7}, "preference", "mapping of objectives"),
        (ChatBody, {"preference": [0.5, 0.5]}, "preference", "mapping of objectives"),
        (ChatBody, {"stop": list("abcde")}, "stop", "at most 4"),
        (ChatBody, {"stop": "x" * 300}, "stop", "256"),
        (
            ChatBody,
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages.0.content",
            "images",
        ),
        (ChatBody, {"messages": [{"role": "user", "content": None}]}, "messages.0.content", "must have text"),
        (ChatBody, {"messages": [{"role": "user"}]}, "messages.0.content", "must have text"),
        (
            ChatBody,
            {"messages": [{"role": "assistant", "tool_calls": [{}]}]},
            "messages.0",
            "tool_calls is not supported",
        ),
        (ChatBody, {"stream_options": {}}, "stream_options", "needs stream"),
        (ChatBody, {"top_logprobs": 2}, "top_logprobs", "needs logprobs"),
        (ChatBody, {"max_tokens": 0}, "max_tokens", "1 or more"),
        (CompletionBody, {"prompt": [[1], "a"]}, "prompt", "token ids"),
        (CompletionBody, {"prompt": {}}, "prompt", "token ids"),
    ],
)
def test_a_field_of_several_forms_is_explained_by_one_sentence(body, change, param, words):
    place, message = fault(body, **change)
    assert place == param
    assert words in message
    assert "constrained" not in message


def test_the_servers_own_answer_is_accepted_as_history():
    # What openai's client dumps of an answer that ended at once.
    empty = {"content": "", "role": "assistant"}
    dumped = empty | {"refusal": None, "annotations": None, "audio": None, "function_call": None, "tool_calls": None}
    for answer in (empty, dumped, empty | {"content": None}):
        ChatBody(model="m", messages=[*CHAT["messages"], answer, *CHAT["messages"]])


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [("a", ["a"]), (["a", "b"], ["a", "b"]), ([5, 6], [[5, 6]]), ([[5], [6, 7]], [[5], [6, 7]])],
)
def test_a_prompt_has_four_forms(prompt, expected):
    assert CompletionBody(model="m", prompt=prompt).prompts == expected


def test_a_response_is_a_chat():
    body = ResponseBody(model="m@careful", input="bake", instructions="be brief", max_output_tokens=9, seed=4)
    chat = body.chat()
    assert [(turn.role, turn.content) for turn in chat.messages] == [("system", "be brief"), ("user", "bake")]
    assert (chat.model, chat.limit, chat.seed) == ("m@careful", 9, 4)
    parts = [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "bake"}]}]
    assert ResponseBody(model="m", input=json.loads(json.dumps(parts))).chat().messages[0].content == "bake"
    for change, param in (
        ({"input": ""}, "input"),
        ({"input": [{"role": "user"}]}, "input"),
        ({"instructions": " "}, "instructions"),
        ({"instructions": "be brief", "input": " "}, "input"),
    ):
        with pytest.raises(ValidationError, match="must have text") as caught:
            ResponseBody(**({"model": "m", "input": "bake"} | change))
        assert caught.value.errors()[0]["ctx"]["param"] == param
    with pytest.raises(ValidationError, match="takes JSON schemas"):
        ResponseBody(model="m", input="a", text={"format": {"type": "json_schema"}})
