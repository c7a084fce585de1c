"""Sampling: a row depends on its own prompt and seed alone, and follows the model's distribution."""

import pytest
import torch
from draws import assert_drawn_from
from transformers import AutoModelForCausalLM, AutoTokenizer

from bonesoup.chat import never_sampled
from bonesoup.generation.sample import encode, log_probabilities, sample


@pytest.fixture(scope="module")
def policy(tiny_policy):
    return AutoModelForCausalLM.from_pretrained(tiny_policy).eval(), AutoTokenizer.from_pretrained(tiny_policy)


def test_a_row_does_not_depend_on_the_rest_of_the_batch(policy, prompts):
    """Prompts of unlike lengths: padding on the left without a mask would corrupt every batch above one."""
    seeds = list(range(len(prompts)))
    together = sample(*policy, prompts, seeds, 1.0, 12, batch=6)
    alone = [sample(*policy, [p], [s], 1.0, 12, batch=1)[0] for p, s in zip(prompts, seeds, strict=True)]
    assert together == alone
    assert len({response.text for response in together}) > 1


def test_noise_is_a_sample_of_the_softmax(policy, prompts):
    """First tokens of 4,000 draws against the model's own probabilities, by a chi-square statistic."""
    model, tokenizer = policy
    n, temperature = 4000, 0.5
    drawn = sample(model, tokenizer, [prompts[0]] * n, list(range(n)), temperature, 1, batch=500)
    inputs = encode(tokenizer, prompts[:1])
    with torch.no_grad():
        logits = model(**inputs).logits[0, -1] / temperature
    # Special tokens other than the end are never sampled.
    logits[never_sampled(tokenizer)] = -torch.inf
    assert_drawn_from([response.token_ids[0] for response in drawn], logits.softmax(-1).numpy())


def test_responses_end_with_the_end_token_or_are_cut(policy, prompts):
    _, tokenizer = policy
    for response in sample(*policy, prompts * 8, list(range(48)), 1.0, 6, batch=48):
        assert response.finished == (response.token_ids[-1] == tokenizer.eos_token_id)
        assert response.finished or len(response.token_ids) == 6
        assert tokenizer.eos_token not in response.text
        assert tokenizer.eos_token_id not in response.token_ids[:-1]


def test_log_probabilities_equal_a_token_by_token_sum(policy, prompts):
    model, tokenizer = policy
    responses = sample(model, tokenizer, prompts, list(range(6)), 1.0, 8, batch=6)
    batched = log_probabilities(model, tokenizer, prompts, responses, batch=6, temperature=0.7)
    for prompt, response, value in zip(prompts, responses, batched, strict=True):
        ids = encode(tokenizer, [prompt])["input_ids"][0].tolist()
        total = 0.0
        for token in response.token_ids:
            with torch.inference_mode():
                logits = model(torch.tensor([ids])).logits[0, -1] / 0.7
            total += logits.log_softmax(-1)[token].item()
            ids.append(token)
        assert value.item() == pytest.approx(total, abs=1e-4)
