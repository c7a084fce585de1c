"""llama.cpp's own server on an export: greedy tokens and log-probabilities against rows mixed here."""

import json
import re
import shlex
from pathlib import Path

import engines
import httpx
import pytest
import torch
from typer.testing import CliRunner

from bonesoup.cli.main import app
from bonesoup.generation.soup import SoupModel

pytestmark = pytest.mark.slow

XLLAMACPP = "xllamacpp==2026.10.11549"
SERVER = Path(__file__).with_name("llama_cpp_server.py")
PROMPTS = [[5, 77, 130, 9, 41], list(range(60, 90)), [300], [200, 210, 220, 230], list(range(300, 340)), [70, 71]]


def serve(mixed, out, file: str):
    """Export a soup file and serve it; yield the folder and the server's address."""
    python = engines.python_with(XLLAMACPP)
    done = CliRunner().invoke(app, ["export", "--for", "llama.cpp", "--out", str(out), str(mixed / file)])
    assert done.exit_code == 0, (done.output, done.exception)
    readme = (out / "README.md").read_text()
    adapters = re.search(r"--lora (\S+)", readme)[1].split(",")
    process, address = engines.started([python, SERVER, out / "base.gguf", *(out / name for name in adapters)], "http")
    yield out, address
    process.stdin.close()
    process.wait(60)


@pytest.fixture(scope="module")
def steered(mixed, tmp_path_factory):
    yield from serve(mixed, tmp_path_factory.mktemp("llama") / "steered", "soup.yaml")


@pytest.fixture(scope="module")
def free(mixed, tmp_path_factory):
    yield from serve(mixed, tmp_path_factory.mktemp("llama") / "free", "free.yaml")


def agree(mixed, address: str, adapters: list[str], scales: dict, weights: dict) -> None:
    """Compare greedy tokens and the likeliest tokens at every step with a row of the soup."""
    model = SoupModel.of_adapters(mixed / "base", {name: mixed / name for name in weights})
    model.mix([list(weights.values())])
    lora = [{"id": adapters.index(name), "scale": scale} for name, scale in scales.items()]
    compared = 0
    for prompt in PROMPTS:
        body = {"prompt": prompt, "n_predict": 12, "temperature": 0, "n_probs": 10, "return_tokens": True, "lora": lora}
        answer = httpx.post(f"{address}/completion", json=body, timeout=120).raise_for_status().json()
        tokens, steps = answer["tokens"], answer["completion_probabilities"]
        with torch.no_grad():
            logprobs = model.model(torch.tensor([[*prompt, *tokens]])).logits[0, len(prompt) - 1 :].log_softmax(-1)
        # Two tokens within rounding of each other may change places.
        assert all(expected[token] >= expected.max() - 1e-3 for expected, token in zip(logprobs, tokens, strict=False))
        # Its steps lack tokens that are a part of a character.
        ids = [step["id"] for step in steps]
        same = [place for place in range(len(ids)) if ids[: place + 1] == tokens[: place + 1]]
        compared += len(same)
        for place in same:
            top = steps[place]["top_logprobs"]
            served = torch.tensor([each["logprob"] for each in top])
            torch.testing.assert_close(logprobs[place][[each["id"] for each in top]], served, atol=1e-3, rtol=0)
    assert compared > 3


@pytest.mark.parametrize("number", [-0.75, 0.0, 0.3, 1.0, 1.75])
def test_one_number_is_the_preference(mixed, steered, number):
    agree(mixed, steered[1], ["bold"], {"bold": number}, {"calm": 1 - number, "bold": number})


@pytest.mark.parametrize("weights", [(1.4, -0.4, 0.5), (0.0, 0.0, 0.0), (-0.7, 0.0, 0.0), (0.3, 0.3, -1.5)], ids=str)
def test_free_weights_in_each_request(mixed, free, weights):
    named = dict(zip(("calm", "bold", "odd"), weights, strict=True))
    agree(mixed, free[1], list(named), named, named)


def test_the_request_of_the_readme_is_answered_at_its_preference(mixed, steered):
    """And as this project's own server answers it: the chat template is in the GGUF."""
    out, address = steered
    request = shlex.split(re.findall(r"```bash\n(curl.*?)```", (out / "README.md").read_text(), re.DOTALL)[0])
    path = request[request.index("-s") + 1].partition("8080")[2]
    body = json.loads(request[-1]) | {"temperature": 0, "max_tokens": 1, "logprobs": True, "top_logprobs": 5}
    answer = httpx.post(address + path, json=body, timeout=120).raise_for_status().json()
    model = SoupModel.of_adapters(mixed / "base", {name: mixed / name for name in ("calm", "bold")})
    model.mix([[1.5, -0.5]])
    ids = model.tokenizer.apply_chat_template(body["messages"], add_generation_prompt=True, return_tensors="pt")
    with torch.no_grad():
        expected = model.model(ids["input_ids"]).logits[0, -1].log_softmax(-1)
    for token in answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]:
        assert expected[token["id"]] == pytest.approx(token["logprob"], abs=2e-3)
