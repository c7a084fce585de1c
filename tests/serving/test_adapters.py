"""People's own adapters over HTTP: weights with each request, against Transformers on weights merged by PEFT."""

import asyncio
import json

import architectures
import httpx
import pytest
import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from ruamel.yaml import YAML
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from bonesoup.chat import words_tokenizer
from bonesoup.cli.main import app as commands
from bonesoup.generation import soup_file
from bonesoup.serving import replies, responses
from bonesoup.serving.app import application
from bonesoup.serving.engine import Limits
from bonesoup.serving.live import Bounds
from bonesoup.serving.metrics import Metrics
from bonesoup.serving.server import Options, start
from bonesoup.serving.source import from_adapters

WORDS = [f"word{i}" for i in range(80)]
ROWS = {"calm": {"kind": 0.75, "brief": 0.25}, "bold": {"kind": 0.25, "brief": 0.75}}
GRID = [{"calm": 1.4, "bold": -0.4}, {"bold": 1.0}, {"calm": -0.7}, {}, {"calm": 0.5, "bold": 0.5}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Make a base with a tokenizer, two adapters of different ranks and modules, and a soup file."""
    root = tmp_path_factory.mktemp("theirs")
    architectures.base("llama").save_pretrained(root / "base")
    words_tokenizer(WORDS).save_pretrained(root / "base")
    architectures.policy(root / "base", root / "calm", 1, r=2, target_modules=["q_proj", "up_proj"])
    architectures.policy(root / "base", root / "bold", 2, r=3, lora_alpha=6, target_modules=["q_proj", "down_proj"])
    content = {"base": "base", "adapters": {"calm": "calm", "bold": "bold"}}
    content |= {"presets": {"wild": {"bold": 1.4, "calm": -0.4}}, "max_new_tokens": 12}
    for name, more in (("plain", {}), ("steered", {"rows": ROWS, "preferences": {"gentle": ROWS["calm"]}})):
        with open(root / f"{name}.yaml", "w") as out:
            YAML().dump(content | more, out)
    return root


def served(folder, name: str):
    options = Options("127.0.0.1", 0, None, (), Limits(8, 64, 60), Bounds(64, 32), "cpu", 1)
    return start(from_adapters(soup_file.read(folder / f"{name}.yaml"), "here"), options, Metrics())


@pytest.fixture(scope="module")
def ask(folder):
    """Return ask(path, body) of the soup without rows; a list of bodies is sent at once."""
    yield from asking(served(folder, "plain"))


@pytest.fixture(scope="module")
def ask_steered(folder):
    yield from asking(served(folder, "steered"))


def asking(live):
    app = application(lambda: live, Metrics())

    async def send(path, bodies):
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            if bodies is None:
                return [await client.get(path)]
            return await asyncio.gather(*(client.post(path, json=body) for body in bodies))

    def ask(path, body=None):
        answers = asyncio.run(send(path, body if isinstance(body, list) or body is None else [body]))
        return answers if isinstance(body, list) else answers[0]

    yield ask
    live.engine.close()
    live.engine.join()


def body(weights=None, model="plain", **more) -> dict:
    given = {} if weights is None else {"adapters": weights}
    return {"model": model, "prompt": "word1 word2 word3", "temperature": 0, "max_tokens": 12} | given | more


def merged(folder, weights: dict):
    """Add PEFT's own sum of the adapters to the base: every delta times its weight."""
    model = AutoModelForCausalLM.from_pretrained(folder / "base")
    for name, weight in weights.items():
        tuned = PeftModel.from_pretrained(model, folder / name, adapter_name=name)
        for layer in tuned.modules():
            if isinstance(layer, LoraLayer) and name in layer.scaling:
                layer.scaling[name] *= weight
        model = tuned.merge_and_unload()
    return model.eval()


def greedy(model, folder) -> str:
    tokenizer = AutoTokenizer.from_pretrained(folder / "base")
    ids = tokenizer("word1 word2 word3", return_tensors="pt", add_special_tokens=False).input_ids
    ends = {tokenizer.eos_token_id, model.generation_config.eos_token_id}
    never = [[token] for token in set(tokenizer.all_special_ids) - ends]
    out = model.generate(ids, max_new_tokens=12, do_sample=False, bad_words_ids=never, eos_token_id=list(ends))
    return tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)


def test_each_request_gets_the_answer_of_its_own_merged_weights(ask, folder):
    """In one batch, greedy, any sign, any subset, none."""
    answers = [answer.json() for answer in ask("/v1/completions", [body(weights) for weights in GRID])]
    texts = [answer["choices"][0]["text"].split() for answer in answers]
    assert texts == [greedy(merged(folder, weights), folder).split() for weights in GRID]
    assert len({tuple(text) for text in texts}) > 2
    assert [answer["coefficients"] for answer in answers] == [{"calm": 0.0, "bold": 0.0} | w for w in GRID]
    assert "preference" not in answers[0]


def test_rows_of_one_batch_are_the_single_answers(ask):
    bodies = [body(weights, temperature=1, seed=i, n=2, logprobs=1) for i, weights in enumerate(GRID * 3)]
    answers = ask("/v1/completions", bodies)
    assert [answer.text for answer in answers if answer.status_code != 200] == []
    together = [answer.json()["choices"] for answer in answers]
    alone = [ask("/v1/completions", each).json()["choices"] for each in bodies]
    for many, single in zip(together, alone, strict=True):
        for batched, other in zip(many, single, strict=True):
            assert batched["text"] == other["text"]
            torch.testing.assert_close(
                torch.tensor(batched["logprobs"]["token_logprobs"]),
                torch.tensor(other["logprobs"]["token_logprobs"]),
                atol=1e-4,
                rtol=1e-4,
            )


@pytest.mark.parametrize(
    ("model", "weights"),
    [
        ("plain@calm:1.4+bold:-0.4", {"calm": 1.4, "bold": -0.4}),
        ("plain@calm=1.4,bold=-0.4", {"calm": 1.4, "bold": -0.4}),
        ("plain@wild", {"bold": 1.4, "calm": -0.4}),
        ("plain@bold", {"bold": 1}),
        ("plain", {}),
    ],
)
def test_weights_in_the_models_name_are_those_in_the_body(ask, model, weights):
    named, sent = ask("/v1/completions", [body(model=model), body(weights)])
    assert named.json()["choices"] == sent.json()["choices"]
    both = ask("/v1/completions", body(weights, model=model))
    assert both.json()["choices"] == sent.json()["choices"]


def test_every_adapter_is_listed_as_a_model(ask):
    models = ask("/v1/models").json()
    replies.Models.model_validate(models, strict=True)
    assert [model["id"] for model in models["data"]] == ["plain", "plain@calm", "plain@bold", "plain@wild"]
    assert models["data"][3]["coefficients"] == {"calm": -0.4, "bold": 1.4}
    soup = ask("/v1/soup").json()
    replies.SoupReply.model_validate(soup, strict=True)
    assert soup["presets"]["wild"] == {"bold": 1.4, "calm": -0.4}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"adapters": {"clam": 1}}, "adapters clam=1: no adapter 'clam': did you mean calm?"),
        ({"adapters": {"other": 1}}, "no adapter 'other'; there are: calm, bold"),
        ({"adapters": {"calm": "much"}}, "adapters must be a mapping of adapters to finite weights"),
        ({"adapters": "calm"}, "adapters must be a mapping"),
        ({"adapter": {"calm": 1}}, "did you mean adapters?"),
        ({"model": "plain@nobody"}, "'nobody' is neither an adapter or preset (calm, bold, wild)"),
        ({"model": "plain@calm:inf"}, "the weight of calm is inf, expected a finite number"),
        ({"model": "plain@calm", "adapters": {"bold": 1}}, "adapters asks for bold=1 and model for calm=1: give one"),
        ({"preference": {"kind": 1}}, 'knows no objectives, only adapters: give their weights, such as "adapters"'),
        ({"adapters": {"calm": 1}, "preferences": ["wild"]}, "give one preference or a list of preferences, not both"),
    ],
)
def test_what_is_wrong_is_refused_by_name(ask, change, message):
    answer = ask("/v1/completions", body() | change)
    assert answer.status_code == 400
    assert message in answer.json()["error"]["message"]


def test_other_routes_take_weights_too(ask, folder):
    chat = {"model": "plain", "messages": [{"role": "user", "content": "word5"}], "temperature": 0, "max_tokens": 8}
    weights = {"adapters": GRID[0]}
    said = ask("/v1/chat/completions", chat | weights).json()["choices"][0]["message"]["content"]
    assert ask("/v1/chat/completions", chat).json()["choices"][0]["message"]["content"] != said
    replied = {"model": "plain", "input": "word5", "temperature": 0, "max_output_tokens": 8} | weights
    replied = ask("/v1/responses", replied).json()
    assert replied["output"][0]["content"][0]["text"] == said
    responses.Response.model_validate(replied, strict=True)
    streamed = ask("/v1/chat/completions", chat | weights | {"stream": True}).text
    pieces = [json.loads(line[6:]) for line in streamed.splitlines() if line.startswith("data: {")]
    assert "".join(piece["choices"][0]["delta"].get("content", "") for piece in pieces) == said
    scored = {"model": "plain", "prompt": "word1 word2", "answers": ["word3 word4"]} | weights
    model = merged(folder, GRID[0])
    tokenizer = AutoTokenizer.from_pretrained(folder / "base")
    ids = torch.tensor([tokenizer("word1 word2 word3 word4", add_special_tokens=False).input_ids])
    with torch.no_grad():
        expected = model(ids).logits[0].log_softmax(-1)[[1, 2], ids[0, 2:]].sum()
    assert ask("/v1/score", scored).json()["data"][0]["logprob"] == pytest.approx(float(expected), abs=1e-4)


def test_with_rows_a_preference_is_understood_and_weights_still_are(ask_steered):
    def coefficients(**change):
        answer = ask_steered("/v1/completions", body(model="steered") | change).json()
        return answer.get("preference"), answer["coefficients"]

    corner = {"calm": pytest.approx(1.5), "bold": pytest.approx(-0.5)}
    assert coefficients(preference={"kind": 1, "brief": 0}) == ({"kind": 1, "brief": 0}, corner)
    assert coefficients(model="steered@kind:1+brief:0") == ({"kind": 1, "brief": 0}, corner)
    assert coefficients(preference="gentle")[1] == {"calm": pytest.approx(1.0), "bold": pytest.approx(0.0)}
    assert coefficients(model="steered@calm:1.5+bold:-0.5") == (None, {"calm": 1.5, "bold": -0.5})
    assert coefficients(adapters={"bold": 2}) == (None, {"calm": 0.0, "bold": 2.0})
    assert coefficients() == ({"kind": 0.5, "brief": 0.5}, {"calm": pytest.approx(0.5), "bold": pytest.approx(0.5)})
    several = ask_steered("/v1/completions", body(model="steered", preferences=["gentle", "wild"])).json()
    assert [choice["coefficients"]["bold"] for choice in several["choices"]] == [pytest.approx(0.0), 1.4]


def test_an_adapter_of_another_base_is_refused_at_start(folder, tmp_path):
    wide = architectures.CONFIGS["llama"]()
    wide.intermediate_size = 64
    AutoModelForCausalLM.from_config(wide).save_pretrained(tmp_path / "wide")
    words_tokenizer(WORDS).save_pretrained(tmp_path / "wide")
    words = ["serve", "--base", str(tmp_path / "wide"), "--adapter", f"calm={folder / 'calm'}"]
    done = CliRunner().invoke(commands, words)
    assert done.exit_code == 1
    assert "up_proj: calm adds [out, in] = [48, 32], the weight in the base model is [64, 32]" in str(done.exception)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--base", "b"], "your own adapters need --base and --adapter"),
        (["--name", "n"], "your own adapters need --base and --adapter"),
        (["--base", "b", "--adapter", "a"], "--adapter is 'a', expected a name and a value"),
        (["--base", "b", "--adapter", "a=x", "--demo"], "give no source, no --demo and no --follow"),
    ],
)
def test_words_that_make_no_sense_are_bad_usage(words, message):
    done = CliRunner().invoke(commands, ["serve", *words])
    assert done.exit_code == 2
    assert message in " ".join(done.output.split()).replace("│ ", "").replace(" │", "")
