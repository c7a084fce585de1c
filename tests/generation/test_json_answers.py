"""Answers that follow a JSON schema, in a batch with others."""

import json
import re
from dataclasses import replace

import jsonschema_rs
import pytest
import torch
from batches import answered
from soup_server import make_version

from bonesoup.generation.batch import Request, Row, end_tokens
from bonesoup.generation.json_answers import JsonVocabulary
from bonesoup.generation.noise import Noise
from bonesoup.generation.sampling import choose
from bonesoup.generation.soup import Soup, SoupModel

SCHEMA = {
    "type": "object",
    "properties": {
        "kind": {"enum": ["bake", "stir"]},
        "minutes": {"type": "integer", "minimum": 0, "maximum": 99},
        "warm": {"type": "boolean"},
    },
    "required": ["kind", "minutes", "warm"],
    "additionalProperties": False,
}
LONG = {"type": "string", "minLength": 40, "maxLength": 40, "pattern": "^[a-z]*$"}


@pytest.fixture(scope="module")
def policy(tmp_path_factory) -> SoupModel:
    """A soup whose tokens are bytes and pieces of words; untrained, it would never write JSON by itself."""
    folder = make_version(tmp_path_factory.mktemp("bpe") / "soup", ["helpful", "harmless"], tokenizer="bpe")
    return SoupModel.load(Soup.read(folder / "artifacts/soup.json", folder / "artifacts"))


@pytest.fixture(scope="module")
def vocabulary(policy) -> JsonVocabulary:
    return JsonVocabulary(policy.tokenizer, policy.model.config.vocab_size, end_tokens(policy.model, policy.tokenizer))


def request(policy, key: str, **options) -> Request:
    prompt = policy.tokenizer("bake mixed stir", add_special_tokens=False)["input_ids"]
    known = {"seed": 5, "temperature": 1.0, "top_p": 1.0, "max_new_tokens": 200}
    return Request(key, prompt, policy.coefficients([0.6, 0.4]), **(known | options))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_an_answer_follows_its_schema(policy, vocabulary, temperature):
    schema = vocabulary.schema(SCHEMA)
    requests = [request(policy, str(i), seed=i, temperature=temperature, schema=schema) for i in range(4)]
    for tokens in answered(policy, requests).values():
        assert tokens[-1].end == "stop"
        text = policy.tokenizer.decode([token.id for token in tokens], skip_special_tokens=True)
        jsonschema_rs.validate(SCHEMA, json.loads(text))


def test_the_rows_next_to_it_are_the_same_bit_for_bit(policy, vocabulary):
    plain = [request(policy, str(i), seed=i, max_new_tokens=12, ignore_eos=True, alternatives=3) for i in range(3)]
    constrained = replace(plain[1], schema=vocabulary.schema(LONG), ignore_eos=False)
    free, mixed = answered(policy, plain), answered(policy, [plain[0], constrained, plain[2]])
    assert mixed["0"] == free["0"]
    assert mixed["2"] == free["2"]
    assert [token.id for token in mixed["1"]] != [token.id for token in free["1"]]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("indent", [None, 0, 2, 8])
def test_a_model_that_writes_the_json_anyway_is_not_changed(policy, vocabulary, temperature, indent):
    text = json.dumps({"kind": "stir", "minutes": 7, "warm": True}, indent=indent)
    (end,) = vocabulary.ends
    ids = [*policy.tokenizer(text, add_special_tokens=False)["input_ids"], end]
    each = request(policy, "a", temperature=temperature)
    answer, noise = vocabulary.schema(SCHEMA).start(), [Noise(1), Noise(1)]
    generator = torch.Generator().manual_seed(0)
    for place, token in enumerate(ids):
        logits = torch.randn(1, vocabulary.size, generator=generator)
        logits[0, token] += 40
        chosen = [
            choose(logits.clone(), [Row(each, own, form, ids[:place])], [], {end})[0]
            for own, form in zip(noise, (answer, None), strict=True)
        ]
        assert chosen == [token, token]
        answer.take(token)


def test_an_answer_that_cannot_go_on_ends_and_is_not_complete(policy, vocabulary):
    answer = vocabulary.schema(SCHEMA).start()
    assert not answer.complete
    answer.take(policy.tokenizer("z", add_special_tokens=False)["input_ids"][0])
    assert set(answer.allowed().nonzero().flatten().tolist()) == vocabulary.ends
    assert not answer.complete


def test_a_schema_that_is_wrong_or_unknown_is_refused(vocabulary):
    for schema in ({"type": "foo"}, {"type": "object", "properties": {"a": {"not": {"type": "string"}}}}):
        with pytest.raises(ValueError, match="the schema is wrong or not supported: "):
            vocabulary.schema(schema)


def test_a_schema_that_is_nested_too_deeply_is_refused(vocabulary):
    schema = {"type": "string"}
    for _ in range(300):
        schema = {"items": schema}
    with pytest.raises(ValueError, match="the schema is wrong or not supported: recursion limit"):
        vocabulary.schema(schema)


def test_a_tokenizer_of_words_cannot_write_json(tmp_path):
    folder = make_version(tmp_path / "soup", ["helpful", "harmless"], tokenizer="words")
    words = SoupModel.load(Soup.read(folder / "artifacts/soup.json", folder / "artifacts"))
    lacks = re.escape('this model cannot write JSON: its vocabulary has no token for { } [ ] " : ,')
    with pytest.raises(ValueError, match=f"^{lacks}$"):
        JsonVocabulary(words.tokenizer, words.model.config.vocab_size, {words.tokenizer.eos_token_id})
