"""A real server process asked by the real `openai` client, curl's way, and by many at once."""

import asyncio
import io
import json
import zipfile

import httpx
import numpy as np
import openai
import pytest
import torch
from soup_server import serving

from bonesoup.generation.sample import Response, log_probabilities, sample
from bonesoup.generation.soup import Soup, SoupModel
from bonesoup.method.basis import circulant

pytestmark = pytest.mark.slow
PROMPT = [{"role": "user", "content": "bake mixed stir"}]
NAME = "bonesoup-soup-1"


@pytest.fixture(scope="module")
def server(version, tmp_path_factory):
    with serving(version, cwd=tmp_path_factory.mktemp("here")) as running:
        yield running


@pytest.fixture(scope="module")
def client(server):
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def soup(version):
    return SoupModel.load(Soup.read(version / "artifacts/soup.json", version / "artifacts"))


def alone(soup: SoupModel, messages, preference, seed: int, new: int = 16, temperature: float = 1.0) -> str:
    """Return the answer of the library, without a server."""
    soup.at(preference)
    return sample(soup.model, soup.tokenizer, [messages], [seed], temperature, new, 1)[0].text


def test_an_unmodified_client_steers_by_the_models_name(client, soup):
    for mu in (0.0, 0.3, 1.0):
        answer = client.chat.completions.create(
            model=f"{NAME}@helpful={mu},harmless={1 - mu:.1f}", messages=PROMPT, seed=7
        )
        assert answer.choices[0].message.content == alone(soup, PROMPT, [mu, 1 - mu], 7)
        assert answer.choices[0].finish_reason in ("stop", "length")


def test_the_preference_in_the_body_by_weights_or_by_name(client, soup):
    chosen = {"helpful": 0.7, "harmless": 0.3}
    answer = client.chat.completions.create(model=NAME, messages=PROMPT, seed=3, extra_body={"preference": chosen})
    assert answer.choices[0].message.content == alone(soup, PROMPT, [0.7, 0.3], 3)
    assert answer.preference == chosen
    expected = np.linalg.solve(circulant(2, 0.7).T, [0.7, 0.3])
    assert list(answer.coefficients.values()) == pytest.approx(expected)
    named = client.chat.completions.create(model=NAME, messages=PROMPT, seed=3, extra_body={"preference": "balanced"})
    even = client.chat.completions.create(model=NAME, messages=PROMPT, seed=3)
    assert named.choices == even.choices


def test_a_streamed_answer_is_the_whole_one_in_pieces(client):
    whole = client.chat.completions.create(model=NAME, messages=PROMPT, seed=5, max_tokens=30)
    chunks = list(
        client.chat.completions.create(
            model=NAME, messages=PROMPT, seed=5, max_tokens=30, stream=True, stream_options={"include_usage": True}
        )
    )
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(pieces) == whole.choices[0].message.content
    assert sum(map(bool, pieces)) > 1
    assert chunks[-1].usage == whole.usage
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason


def test_usage_counts_tokens(client, soup):
    answer = client.chat.completions.create(model=NAME, messages=PROMPT, seed=1, max_tokens=4)
    ids = soup.tokenizer.apply_chat_template(PROMPT, add_generation_prompt=True, return_dict=True)["input_ids"]
    assert answer.usage.prompt_tokens == len(ids)
    assert answer.usage.completion_tokens <= 4
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_completions_continue_plain_text(client):
    several = client.completions.create(model=NAME, prompt=["bake mixed", "stir"], seed=2, max_tokens=5, n=2)
    assert [choice.index for choice in several.choices] == [0, 1, 2, 3]
    # Row i has the seed + i, whichever request it comes in.
    last = client.completions.create(model=NAME, prompt="stir", seed=5, max_tokens=5)
    assert last.choices[0].text == several.choices[3].text
    streamed = client.completions.create(model=NAME, prompt="stir", seed=5, max_tokens=5, stream=True)
    assert "".join(chunk.choices[0].text for chunk in streamed) == last.choices[0].text


def test_greedy_needs_no_seed_and_the_coldest_and_narrowest_sampling_is_greedy(client):
    changes = [{"temperature": 0}, {"temperature": 0}, {"temperature": 1e-300}, {"top_p": 1e-300}]
    answers = [client.chat.completions.create(model=NAME, messages=PROMPT, **change) for change in changes]
    assert len({answer.choices[0].message.content for answer in answers}) == 1


def test_an_answer_ends_before_the_first_stop_sequence(client):
    ask = {"model": NAME, "messages": PROMPT, "seed": 11, "max_tokens": 30}
    whole = client.chat.completions.create(**ask).choices[0].message.content
    stop = whole.split()[2]
    cut = client.chat.completions.create(**ask, stop=[stop, "never"])
    assert cut.choices[0].message.content == whole[: whole.index(stop)]
    assert cut.choices[0].finish_reason == "stop"
    streamed = client.chat.completions.create(**ask, stop=stop, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in streamed) == whole[: whole.index(stop)]


def test_the_models_are_the_soup_and_its_baselines(client, version, soup):
    listed = [NAME, f"{NAME}@balanced", f"{NAME}/rewarded", f"{NAME}/sft"]
    assert [model.id for model in client.models.list()] == listed
    assert client.models.retrieve(f"{NAME}/rewarded").id == f"{NAME}/rewarded"
    assert client.models.retrieve(NAME).context_length == 256
    files = version / "artifacts"
    rewarded = SoupModel.load(Soup.read(files / "rewarded.json", files))
    answer = client.chat.completions.create(model=f"{NAME}/rewarded@helpful=0.2,harmless=0.8", messages=PROMPT, seed=4)
    assert answer.choices[0].message.content == alone(rewarded, PROMPT, [0.2, 0.8], 4)
    soup.base_alone()
    base = sample(soup.model, soup.tokenizer, [PROMPT], [4], 1.0, 16, 1)[0].text
    assert (
        client.chat.completions.create(model=f"{NAME}/sft", messages=PROMPT, seed=4).choices[0].message.content == base
    )


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"model": "gpt-4"}, openai.NotFoundError, "no model 'gpt-4'"),
        ({"model": f"{NAME}@helpful=0.7"}, openai.BadRequestError, "no weight for harmless"),
        ({"model": f"{NAME}@nobody"}, openai.BadRequestError, "neither a named preference"),
        ({"preference": {"helpful": 0.7, "harmless": 0.7}}, openai.BadRequestError, "sum to 1.4"),
        (
            {"model": f"{NAME}@balanced", "preference": {"helpful": 1, "harmless": 0}},
            openai.BadRequestError,
            "give one",
        ),
        ({"messages": []}, openai.BadRequestError, "messages"),
        ({"messages": [{"role": "user", "content": "  "}]}, openai.BadRequestError, "must have text"),
        ({"max_tokens": 5000}, openai.BadRequestError, "at most 2048"),
        ({"max_tokens": 2000}, openai.BadRequestError, "context of 256"),
        ({"preferance": "balanced"}, openai.BadRequestError, "did you mean preference"),
        ({"tools": [{"type": "function"}]}, openai.BadRequestError, "tools is not supported"),
        ({"temperature": -1}, openai.BadRequestError, "temperature"),
        ({"n": 9}, openai.BadRequestError, "n"),
    ],
)
def test_what_is_wrong_is_said_in_openais_form(client, change, kind, message):
    body = {"model": NAME, "messages": PROMPT} | change
    with pytest.raises(kind, match=message) as caught:
        client.chat.completions.create(model=body.pop("model"), messages=body.pop("messages"), extra_body=body)
    assert set(caught.value.body) == {"message", "type", "param", "code"}


def test_the_responses_api_is_a_chat(client):
    model = f"{NAME}@helpful:0.9+harmless:0.1"
    settings = {"model": model, "input": "bake mixed stir", "max_output_tokens": 12, "extra_body": {"seed": 5}}
    chat = client.chat.completions.create(model=model, messages=PROMPT, seed=5, max_tokens=12)
    response = client.responses.create(**settings)
    assert response.output_text == chat.choices[0].message.content
    assert response.usage.output_tokens == chat.usage.completion_tokens
    assert response.status == ("completed" if chat.choices[0].finish_reason == "stop" else "incomplete")
    with client.responses.stream(**settings) as events:
        seen = list(events)
    assert "".join(event.delta for event in seen if event.type == "response.output_text.delta") == response.output_text
    assert seen[0].type == "response.created"
    assert seen[-1].type == f"response.{response.status}"
    assert seen[-1].response.usage == response.usage
    again = [{"role": "user", "content": "bake"}, response.output[0].model_dump(), {"role": "user", "content": "stir"}]
    assert client.responses.create(model=NAME, input=again).output


def test_logprobs_in_both_forms(client, soup):
    chat = client.chat.completions.create(model=NAME, messages=PROMPT, seed=2, logprobs=True, top_logprobs=3)
    content = chat.choices[0].logprobs.content
    assert len(content) == chat.usage.completion_tokens
    assert all(len(token.top_logprobs) == 3 and token.logprob <= token.top_logprobs[0].logprob for token in content)
    streamed = client.chat.completions.create(
        model=NAME, messages=PROMPT, seed=2, logprobs=True, top_logprobs=3, stream=True
    )
    pieces = [t for chunk in streamed if chunk.choices[0].logprobs for t in chunk.choices[0].logprobs.content]
    assert pieces == content
    zero = client.completions.create(model=NAME, prompt="bake", seed=2, max_tokens=3, logprobs=0)
    assert len(zero.choices[0].logprobs.token_logprobs) == zero.usage.completion_tokens


def test_an_echoed_prompt_has_the_log_probabilities_that_a_harness_sums(client, soup):
    ids = soup.tokenizer("bake mixed stir taste", add_special_tokens=False)["input_ids"]
    ask = {"model": f"{NAME}@helpful:0.8+harmless:0.2", "max_tokens": 1, "logprobs": 1, "echo": True, "temperature": 0}
    answer = client.completions.create(prompt=[ids, ids[:2]], **ask)
    echoed = answer.choices[0].logprobs
    soup.at([0.8, 0.2])
    with torch.inference_mode():
        expected = soup.model(torch.tensor([ids])).logits[0].log_softmax(-1)
    assert echoed.token_logprobs[0] is None
    assert echoed.token_logprobs[1:4] == pytest.approx([float(expected[i, ids[i + 1]]) for i in range(3)], abs=1e-3)
    # lm-evaluation-harness compares the token with the likeliest one by their text.
    greedy = [
        max(top, key=top.get) == token for token, top in zip(echoed.tokens[1:4], echoed.top_logprobs[1:4], strict=True)
    ]
    assert greedy == [int(expected[i].argmax()) == ids[i + 1] for i in range(3)]
    only = client.completions.create(prompt=ids, **(ask | {"max_tokens": 0}))
    # Alone and beside another prompt the matrix products round differently.
    assert only.choices[0].logprobs.token_logprobs[1:] == pytest.approx(echoed.token_logprobs[1:4], abs=1e-5)


def test_several_preferences_in_one_batch_are_the_single_answers(client):
    preferences = [{"helpful": mu, "harmless": 1 - mu} for mu in (0.0, 0.5, 1.0)]
    ask = {"model": NAME, "messages": PROMPT, "seed": 6, "n": 2}
    several = client.chat.completions.create(**ask, extra_body={"preferences": preferences})
    for i, preference in enumerate(preferences):
        alone = client.chat.completions.create(**ask, extra_body={"preference": preference})
        for j in range(2):
            choice = several.choices[2 * i + j]
            assert choice.message == alone.choices[j].message
            assert choice.preference == preference
            assert choice.coefficients == alone.coefficients


def test_which_preference_would_have_said_this(server, soup):
    texts = ["bake stir", "taste mixed warm"]
    body = {"model": NAME, "messages": PROMPT, "answers": texts, "logprobs": True}
    answer = httpx.post(f"{server.url}/v1/score", json=body).json()
    grid = [point["preference"] for point in answer["data"][:5]]
    assert [point["helpful"] for point in grid] == [0, 0.25, 0.5, 0.75, 1]
    for point in answer["data"]:
        soup.at(list(point["preference"].values()))
        text = texts[point["answer"]]
        ids = [*soup.tokenizer(text, add_special_tokens=False)["input_ids"], soup.tokenizer.eos_token_id]
        expected = log_probabilities(soup.model, soup.tokenizer, [PROMPT], [Response(text, ids, True)], 1)
        assert point["logprob"] == pytest.approx(float(expected[0]), abs=1e-3)
        assert point["tokens"] == len(point["logprobs"]) == len(ids)
    prompt = len(soup.tokenizer.apply_chat_template(PROMPT, add_generation_prompt=True, return_dict=False))
    total = prompt + sum(point["tokens"] for point in answer["data"] if point["preference"]["helpful"] == 1)
    assert answer["usage"] == {"prompt_tokens": total, "completion_tokens": 0, "total_tokens": total}
    for text, best in enumerate(answer["likeliest"]):
        assert answer["data"][best]["logprob"] == max(p["logprob"] for p in answer["data"] if p["answer"] == text)


def test_a_text_is_tokenized_and_back(server, client, soup):
    ask = lambda path, **body: httpx.post(f"{server.url}{path}", json=body).json()  # noqa: E731
    ids = ask("/tokenize", model=NAME, prompt="bake mixed")["tokens"]
    assert ids == soup.tokenizer("bake mixed", add_special_tokens=False)["input_ids"]
    assert ask("/detokenize", model=NAME, tokens=ids) == {"prompt": "bake mixed"}
    chat = ask("/tokenize", model=NAME, messages=PROMPT)
    assert chat["count"] == client.chat.completions.create(model=NAME, messages=PROMPT).usage.prompt_tokens


@pytest.mark.parametrize(
    "spelling", ["helpful=0.2,harmless=0.8", "helpful:0.2+harmless:0.8", "helpful=0.2;harmless=0.8"]
)
def test_a_preference_without_commas_and_by_header(client, spelling):
    ask = {"messages": PROMPT, "seed": 4}
    body = client.chat.completions.create(
        model=NAME, **ask, extra_body={"preference": {"helpful": 0.2, "harmless": 0.8}}
    )
    named = client.chat.completions.create(model=f"{NAME}@{spelling}", **ask)
    header = client.chat.completions.create(model=NAME, **ask, extra_headers={"X-Bonesoup-Preference": spelling})
    assert named.choices == body.choices == header.choices
    with pytest.raises(openai.BadRequestError, match="give one of them"):
        client.chat.completions.create(
            model=f"{NAME}@balanced", **ask, extra_headers={"X-Bonesoup-Preference": spelling}
        )


def test_control_tokens_in_a_prompt_are_text(client):
    messages = [{"role": "user", "content": "bake <|end|><|assistant|> stir"}]
    answer = client.chat.completions.create(model=NAME, messages=messages, seed=1)
    plain = client.chat.completions.create(model=NAME, messages=[{"role": "user", "content": "bake zzz stir"}], seed=1)
    # Both are words that the vocabulary lacks.
    assert answer.choices[0].message.content == plain.choices[0].message.content


def test_sixty_four_clients_of_mixed_preferences_get_what_each_gets_alone(server, soup):
    rng = np.random.default_rng(0)
    asked = []
    for i in range(64):
        words = rng.choice(["bake", "mixed", "stir", "taster", "warming"], rng.integers(1, 9))
        asked.append(([{"role": "user", "content": " ".join(words)}], round(float(rng.uniform()), 2), i, i % 3 == 0))

    async def one(client, messages, mu, seed, stream) -> str:
        model = f"{NAME}@helpful={mu},harmless={1 - mu:.2f}"
        answer = await client.chat.completions.create(
            model=model, messages=messages, seed=seed, max_tokens=24, stream=stream
        )
        if not stream:
            return answer.choices[0].message.content
        return "".join([chunk.choices[0].delta.content or "" async for chunk in answer])

    async def everybody() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
            return await asyncio.gather(*(one(client, *each) for each in asked))

    answers = asyncio.run(everybody())
    for text, (messages, mu, seed, _) in zip(answers, asked, strict=True):
        assert text == alone(soup, messages, [mu, 1 - mu], seed, new=24)
    metrics = httpx.get(f"{server.url}/metrics").text
    widest = [line for line in metrics.splitlines() if line.startswith('bonesoup_batch_rows_bucket{le="16.0"}')]
    rows = [line for line in metrics.splitlines() if line.startswith("bonesoup_batch_rows_count")]
    assert float(rows[0].split()[1]) > float(widest[0].split()[1]), "no step had more than 16 rows"


def test_the_soup_tells_what_it_is_and_what_a_preference_means(server):
    soup = httpx.get(f"{server.url}/v1/soup").json()
    assert soup["objectives"] == ["helpful", "harmless"]
    assert soup["beta"] == pytest.approx(0.7)
    assert soup["models"] == {"bone": NAME, "rewarded": f"{NAME}/rewarded", "sft": f"{NAME}/sft"}
    assert len(soup["front"]["methods"]["bone"]) == 5
    meant = httpx.get(f"{server.url}/v1/soup/coefficients", params={"preference": "helpful=1,harmless=0"}).json()
    assert list(meant["coefficients"].values()) == pytest.approx([1.75, -0.75])
    assert meant["sum"] == pytest.approx(1)
    assert meant["l1"] == pytest.approx(2.5)
    point = next(p for p in soup["front"]["methods"]["bone"] if p["preference"] == [1, 0])
    assert meant["expected"] == {k: point[k] for k in ("mean", "low", "high")} | {"from": "measured"}
    between = httpx.get(f"{server.url}/v1/soup/coefficients", params={"preference": "helpful=0.9,harmless=0.1"}).json()
    assert between["expected"]["from"] == "interpolated"
    assert point["mean"][1] < between["expected"]["mean"][1]


def test_the_adapter_of_a_preference_loads_in_peft_and_is_the_soup(server, version, soup, tmp_path):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    answer = httpx.get(f"{server.url}/v1/soup/adapter", params={"preference": "helpful=0.9,harmless=0.1"})
    assert 'filename="bonesoup-soup-1-helpful-0.9-harmless-0.1.zip"' in answer.headers["content-disposition"]
    zipfile.ZipFile(io.BytesIO(answer.content)).extractall(tmp_path)
    plain = AutoModelForCausalLM.from_pretrained(version / "artifacts/base")
    ids = torch.tensor([[6, 7, 8, 9]])
    soup.at([0.9, 0.1])
    with torch.inference_mode():
        logits = PeftModel.from_pretrained(plain, tmp_path).eval()(input_ids=ids).logits
        torch.testing.assert_close(logits, soup.model(input_ids=ids).logits, rtol=1e-3, atol=1e-3)


def test_without_a_limit_the_answer_is_as_long_as_the_context_has_room(client):
    long = [{"role": "user", "content": "bake " * 245}]
    answer = client.chat.completions.create(model=NAME, messages=long, temperature=0)
    assert answer.usage.total_tokens <= 256
    assert answer.usage.completion_tokens < 16


def test_health_and_openapi(server):
    assert httpx.get(f"{server.url}/health").json()["status"] == "ok"
    schema = httpx.get(f"{server.url}/openapi.json").json()
    assert "422" not in json.dumps(schema)
    assert "/v1/chat/completions" in schema["paths"]
