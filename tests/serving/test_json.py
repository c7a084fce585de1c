"""JSON schemas over the API, by the real `openai` client; tools and other forms are refused by name."""

import json
from typing import Literal

import openai
import pytest
from pydantic import BaseModel, ConfigDict, Field
from soup_server import serving

pytestmark = pytest.mark.slow
ASK = {"model": "bonesoup-soup-2", "messages": [{"role": "user", "content": "bake mixed stir"}], "seed": 4}


class Recipe(BaseModel):
    model_config = ConfigDict(extra="forbid")

    kind: Literal["bake", "stir"]
    minutes: int = Field(ge=0, le=99)
    steps: list[Literal["warm", "mix"]] = Field(max_length=2)


def form(schema: dict) -> dict:
    return {"type": "json_schema", "json_schema": {"name": "recipe", "schema": schema}}


@pytest.fixture(scope="module")
def client(version3, tmp_path_factory):
    with serving(version3, cwd=tmp_path_factory.mktemp("here")) as running:
        yield openai.OpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0)


def test_the_clients_typed_answers_arrive_whole_and_streamed(client):
    options = {"response_format": Recipe, "max_tokens": 150}
    whole = client.chat.completions.parse(**ASK, **options).choices[0]
    assert (whole.finish_reason, type(whole.message.parsed)) == ("stop", Recipe)
    with client.chat.completions.stream(**ASK, **options) as stream:
        assert stream.get_final_completion().choices[0].message.content == whole.message.content


def test_every_preference_follows_the_schema_and_plain_rows_stay_as_they_are(client):
    preferences = [{"helpful": 1, "harmless": 0, "humor": 0}, {"helpful": 0, "harmless": 1, "humor": 0}]
    typed = client.chat.completions.create(
        **ASK, response_format=form(Recipe.model_json_schema()), max_tokens=150, extra_body={"preferences": preferences}
    )
    for choice in typed.choices:
        Recipe.model_validate(json.loads(choice.message.content))
    plain = client.chat.completions.create(**ASK)
    assert client.chat.completions.create(**ASK, response_format={"type": "text"}).choices == plain.choices


@pytest.mark.parametrize(
    ("options", "param", "message"),
    [
        ({"response_format": {"type": "json_object"}}, "response_format", "response_format must be"),
        ({"response_format": form({"type": "foo"})}, "response_format", "the schema is wrong or not supported"),
        (
            {"response_format": form({"type": "object"}), "extra_body": {"min_tokens": 3}},
            "min_tokens",
            "cannot go with a JSON schema",
        ),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools", "tools is not supported"),
        (
            {"response_format": form({}) | {"strict": True}},
            "response_format.strict",
            "unknown field response_format.strict: leave it out",
        ),
    ],
)
def test_what_is_not_supported_is_refused_by_name(client, options, param, message):
    with pytest.raises(openai.BadRequestError, match=message) as error:
        client.chat.completions.create(**ASK, **options)
    assert error.value.param == param


def test_a_model_of_words_says_that_it_cannot_write_json(version, tmp_path):
    with serving(version, cwd=tmp_path) as running:
        client = openai.OpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0)
        with pytest.raises(openai.BadRequestError, match="cannot write JSON"):
            client.chat.completions.create(
                **ASK | {"model": "bonesoup-soup-1"}, response_format=form({"type": "object"})
            )
