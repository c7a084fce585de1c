"""Rows that join and leave a running batch get what Transformers' generate gives each of them alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers
from architectures import policy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer, LogitsProcessorList

from bonesoup.chat import never_sampled
from bonesoup.generation.batch import Request, RunningBatch
from bonesoup.generation.mixer import Mixer
from bonesoup.generation.sample import RowNoise
from bonesoup.generation.sampling import nucleus
from bonesoup.generation.soup import Policy, Soup, SoupModel
from bonesoup.weights.adapter_files import load


@pytest.fixture(scope="module")
def soup_model(tiny_policy, tmp_path_factory) -> SoupModel:
    folder = tmp_path_factory.mktemp("policies")
    policies = [
        Policy(f"backbone-{k}", policy(tiny_policy, folder / str(k), k, r=2 * k, target_modules="all-linear"), row)
        for k, row in ((1, (0.7, 0.3)), (2, (0.3, 0.7)))
    ]
    return SoupModel.load(Soup("bone", tiny_policy, ("a", "b"), "solve", tuple(policies), ()))


def alone(live: SoupModel, request: Request) -> list[int]:
    """Return what generate samples for one request, with the coefficients it names."""
    tokenizer = live.tokenizer
    live.mixer.set(torch.tensor(request.coefficients)[None])
    noise = LogitsProcessorList([RowNoise([request.seed], request.temperature)] if request.temperature else [])
    generated = live.model.generate(
        torch.tensor([request.prompt]),
        do_sample=False,
        max_new_tokens=request.max_new_tokens,
        suppress_tokens=never_sampled(tokenizer),
        logits_processor=noise,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return generated[0, len(request.prompt) :].tolist()


def serve(batch: RunningBatch, arrivals: list[list[Request]]) -> dict:
    """Let requests arrive at their steps; after each arrival every row gets a token. Return {key: [token]}."""
    answers, ends = {}, {}
    for step in range(200):
        tokens = batch.join(arrivals[step]) if step < len(arrivals) and arrivals[step] else []
        for token in tokens + batch.step():
            assert token.key not in ends, "a row that ended went on"
            answers.setdefault(token.key, []).append(token.id)
            if token.end:
                ends[token.key] = token.end
        if step >= len(arrivals) and not len(batch):
            return answers
    raise AssertionError("rows never end")


REQUEST = st.tuples(
    st.lists(st.integers(5, 20), min_size=1, max_size=9),
    st.floats(0, 1),
    st.integers(0, 2**31),
    st.sampled_from([0.0, 0.7, 1.0]),
    st.integers(1, 12),
)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.lists(REQUEST, max_size=3), min_size=1, max_size=6))
def test_every_row_gets_what_it_gets_alone(soup_model, waves):
    arrivals = [
        [
            Request((w, i), prompt, soup_model.coefficients([mu, 1 - mu]), seed, temperature, 1.0, limit)
            for i, (prompt, mu, seed, temperature, limit) in enumerate(wave)
        ]
        for w, wave in enumerate(waves)
    ]
    answers = serve(RunningBatch(soup_model), arrivals)
    requests = [request for wave in arrivals for request in wave]
    assert answers.keys() == {request.key for request in requests}
    for request in requests:
        assert answers[request.key] == alone(soup_model, request)


def test_every_architecture_joins_and_leaves(mixed_policies, tiny_policy):
    """Grouped heads, sliding windows shorter than the text, tied embeddings, parallel blocks."""
    base, folders = mixed_policies
    model = AutoModelForCausalLM.from_pretrained(base).eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny_policy)
    policies = tuple(Policy(str(k), path, (1.0,)) for k, path in enumerate(folders))
    live = SoupModel(None, model, tokenizer, policies, Mixer(model, [load(path) for path in folders]))
    generator = np.random.default_rng(0)
    arrivals = [
        [
            Request(
                (w, i), generator.integers(5, 80, 1 + 4 * i + w).tolist(), generator.normal(size=3), i, 0.9, 1.0, 14
            )
            for i in range(2)
        ]
        for w in range(3)
    ]
    answers = serve(RunningBatch(live), arrivals)
    for request in (request for wave in arrivals for request in wave):
        assert answers[request.key] == alone(live, request)


def requests_of(live: SoupModel, count: int) -> list[Request]:
    return [Request(i, [5 + i, 9], live.coefficients([0.5, 0.5]), i, 1.0, 1.0, 30) for i in range(count)]


def test_a_dropped_row_is_gone_and_the_others_do_not_notice(soup_model):
    requests = requests_of(soup_model, 4)
    expected = {request.key: alone(soup_model, request) for request in requests}
    batch = RunningBatch(soup_model)
    answers = {token.key: [token.id] for token in batch.join(requests)}
    batch.drop({2, "unknown"})
    while len(batch):
        for token in batch.step():
            assert token.key != 2
            answers[token.key].append(token.id)
    assert {k: v for k, v in answers.items() if k != 2} == {k: v for k, v in expected.items() if k != 2}


def test_the_columns_of_rows_that_left_are_given_back(soup_model):
    batch = RunningBatch(soup_model)
    long, short = requests_of(soup_model, 2)
    batch.join([replace(long, prompt=[5] * 40)])
    batch.join([short])
    batch.drop({long.key})
    assert batch._cache.get_seq_length() == len(short.prompt)


def test_the_end_is_told_apart_from_the_limit(soup_model):
    requests = [replace(request, max_new_tokens=400) for request in requests_of(soup_model, 8)]
    batch = RunningBatch(soup_model)
    ended = {}
    last = batch.join(requests)
    for _ in range(60):
        ended |= {token.key: token for token in last if token.end}
        last = batch.step()
    assert ended
    assert all(token.end == "stop" and token.id == soup_model.tokenizer.eos_token_id for token in ended.values())
    going_on = next(token for token in RunningBatch(soup_model).join(requests) if token.end is None)
    limited = RunningBatch(soup_model).join([replace(requests[going_on.key], max_new_tokens=1)])
    assert [(token.id, token.end) for token in limited] == [(going_on.id, "length")]


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("Mamba", {}, "MambaForCausalLM takes no position_ids"),
        (
            "Jamba",
            {"attn_layer_period": 2, "attn_layer_offset": 1},
            "JambaForCausalLM caches more than",
        ),
        ("Lfm2", {"layer_types": ["conv", "full_attention"]}, "Lfm2ForCausalLM caches more than"),
    ],
)
def test_a_model_with_a_state_beside_its_keys_and_values_is_refused(tiny_policy, name, settings, message):
    shape = {"vocab_size": 90, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2} if name != "Mamba" else {}
    config = getattr(transformers, f"{name}Config")(**shape, **heads, **settings)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    live = SoupModel(None, model, AutoTokenizer.from_pretrained(tiny_policy), (), Mixer(model, []))
    with pytest.raises(ValueError, match=message):
        RunningBatch(live)


def test_the_nucleus_keeps_the_token_that_crosses_the_line():
    logits = torch.log(torch.tensor([[0.5, 0.1, 0.3, 0.1], [0.5, 0.1, 0.3, 0.1]]))
    kept = nucleus(logits, torch.tensor([[0.6], [1.0]])).isfinite()
    assert kept.tolist() == [[True, False, True, False], [True] * 4]


def test_the_nucleus_samples_as_transformers_does():
    from transformers import TopPLogitsWarper

    logits = torch.randn(20, 50, generator=torch.Generator().manual_seed(0))
    for top_p in (1e-300, 0.1, 0.5, 0.9):
        expected = TopPLogitsWarper(top_p)(None, logits.clone()).isfinite()
        assert torch.equal(nucleus(logits, torch.full((20, 1), top_p)).isfinite(), expected)
