"""MOD samples from the normalised product of the policies' distributions, by a dense computation."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from draws import assert_drawn_from
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from bonesoup.chat import never_sampled
from bonesoup.generation.mod import members, product, sample_product
from bonesoup.generation.sample import encode
from bonesoup.generation.soup import SoupModel, merge_adapters
from bonesoup.generation.sweep import sweep
from bonesoup.weights.fold import fold

WEIGHT = st.floats(-2, 3)


@pytest.fixture(scope="module")
def dense(recipe, tmp_path_factory):
    """Load the base and each policy as a separate plain model."""
    folder, models = tmp_path_factory.mktemp("dense"), [AutoModelForCausalLM.from_pretrained(recipe.base).eval()]
    for policy in recipe.policies:
        alone = replace(recipe, mapping="single", policies=(policy,))
        fold(recipe.base, merge_adapters(alone, policy.row)[0], folder / policy.slot)
        models.append(AutoModelForCausalLM.from_pretrained(folder / policy.slot).eval())
    return models


@torch.inference_mode()
def mixed(dense, tokenizer, prompt, ids: list[int], weights, temperature: float) -> torch.Tensor:
    """Compute log-probabilities of the next token under sft + sum_j weight_j (policy_j - sft), from whole models."""
    start = encode(tokenizer, [prompt])["input_ids"][0].tolist()
    base, *logs = [(model(torch.tensor([start + ids])).logits[0, -1] / temperature).log_softmax(-1) for model in dense]
    return (base + sum(w * (log - base) for w, log in zip(weights, logs, strict=True))).log_softmax(-1)


@pytest.mark.parametrize("weights", [(0.5, 0.5), (1.0, 0.0), (0.3, 0.7), (1.75, -0.75), (0.9, 0.6)])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probabilities_are_those_of_the_product(recipe, dense, prompts, weights, temperature):
    policy = SoupModel.load(replace(recipe, mixes="distributions"))
    rows = np.tile(weights, (len(prompts), 1))
    responses, logits = sample_product(policy, rows, prompts, list(range(len(prompts))), temperature, 6)
    for prompt, response, value in zip(prompts, responses, logits, strict=True):
        total, ids = 0.0, []
        for token in response.token_ids:
            total += mixed(dense, policy.tokenizer, prompt, ids, weights, temperature)[token].item()
            ids.append(token)
        assert value.item() == pytest.approx(total, abs=2e-4)


def test_tokens_are_drawn_from_the_product(recipe, dense, prompts):
    """First tokens of 3,000 draws against the dense product's probabilities, by a chi-square statistic."""
    n, weights = 3000, (0.4, 0.6)
    policy = SoupModel.load(replace(recipe, mixes="distributions"))
    drawn, _ = sample_product(policy, np.tile(weights, (n, 1)), [prompts[0]] * n, list(range(n)), 1.0, 1)
    log_probs = mixed(dense, policy.tokenizer, prompts[0], [], weights, 1.0).clone()
    log_probs[never_sampled(policy.tokenizer)] = -torch.inf
    assert_drawn_from([response.token_ids[0] for response in drawn], log_probs.softmax(-1).numpy())


def test_each_row_has_a_mixture_of_its_own(recipe, prompts):
    policy = SoupModel.load(replace(recipe, mixes="distributions"))
    rows = np.array([[k / 5, 1 - k / 5] for k in range(6)])
    together, logs = sample_product(policy, rows, prompts, list(range(6)), 1.0, 8)
    for k in range(6):
        alone, log = sample_product(policy, rows[k : k + 1], prompts[k : k + 1], [k], 1.0, 8)
        assert alone == together[k : k + 1]
        torch.testing.assert_close(log, logs[k : k + 1], rtol=1e-4, atol=1e-4)


def test_a_vertex_is_the_policy_itself(recipe, prompts):
    weights = SoupModel.load(recipe)
    distributions = SoupModel.load(replace(recipe, mixes="distributions"))
    arguments = (np.array([[1.0, 0.0], [0.0, 1.0]]), prompts, list(range(6)), 1.0, 8, 12)
    sweeps = [sweep(policy, *arguments, likelihoods=True) for policy in (weights, distributions)]
    for (_, first, a), (_, second, b) in zip(*sweeps, strict=True):
        assert first == second
        np.testing.assert_allclose(a, b, atol=1e-3)


def test_log_probabilities_are_measured_for_those_who_ask_and_change_no_answer(recipe, prompts):
    policy = SoupModel.load(recipe)
    arguments = (np.array([[1.0, 0.0], [0.0, 1.0]]), prompts, list(range(6)), 1.0, 8, 12)
    ((_, answers, none),) = sweep(policy, *arguments)
    ((_, same, measured),) = sweep(policy, *arguments, likelihoods=True)
    assert answers == same
    assert none is None
    assert (measured < 0).all()


@given(rows=st.lists(st.tuples(WEIGHT, WEIGHT), min_size=1, max_size=4))
def test_members_and_weights_make_the_same_mixture(rows):
    """With the base at 0 the members, weighted, are lambda; and the weights sum to 1."""
    coefficients = np.array(rows)
    mixtures, weights = members(coefficients)
    if len(mixtures):
        np.testing.assert_allclose(weights @ mixtures, coefficients, atol=1e-9)
        np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-8)


def test_a_token_that_one_member_rules_out_stays_out():
    logits = torch.tensor([[0.0, -torch.inf, 1.0], [0.0, 5.0, 1.0]])
    mixed = product(logits, torch.tensor([[1.75, -0.75]]))
    assert mixed[0, 1] == -torch.inf
    torch.testing.assert_close(mixed[0, [0, 2]], torch.tensor([0.0, 1.0]))
