"""The reward that makes a run from a soup maximise what a run from SFT does."""

import numpy as np
import pytest
import torch
from architectures import policy
from transformers import AutoModelForCausalLM, AutoTokenizer

from bonesoup.diagnose.short_run import drift, shortened
from bonesoup.generation.sample import Response, log_probabilities
from bonesoup.generation.soup import Policy, Soup, SoupModel, merge_adapters
from bonesoup.settings.params import load
from bonesoup.settings.schema import Generation
from bonesoup.weights.fold import fold

LIMIT = 4
TEXTS = ["Use flour.", "Sorry, I cannot.", "yes no yes no"]


@pytest.fixture
def settings():
    return load().model_copy(update={"generation": Generation(temperature=0.7, max_new_tokens=LIMIT)})


def test_drift_is_the_divergence_of_the_merged_soup_from_sft(tiny_policy, prompts, settings, tmp_path):
    preference = [0.4, 0.6]
    adapters = [policy(tiny_policy, tmp_path / str(k), k, r=2, target_modules="all-linear") for k in (1, 2)]
    policies = tuple(Policy(path.name, path, row) for path, row in zip(adapters, [(1, 0), (0, 1)], strict=True))
    recipe = Soup("rewarded", tiny_policy, ("a", "b"), "solve", policies, ())
    fold(tiny_policy, merge_adapters(recipe, preference)[0], tmp_path / "soup")
    tokenizer = AutoTokenizer.from_pretrained(tiny_policy)
    responses = []
    for text in TEXTS:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        responses.append(Response(text, ids + [tokenizer.eos_token_id] * (len(ids) < LIMIT), True))
    # The last text fills the limit: whether it would have ended there is not known.
    assert [len(one.token_ids) for one in responses] == [3, 4, 4]
    soup, sft = (
        log_probabilities(AutoModelForCausalLM.from_pretrained(folder), tokenizer, prompts[:3], responses, 3, 0.7)
        for folder in (tmp_path / "soup", tiny_policy)
    )
    assert (soup - sft).abs().min() > 0.01
    reward = drift(SoupModel.load(recipe), preference, settings)
    np.testing.assert_allclose(reward.score(prompts[:3], TEXTS), -(soup - sft).numpy(), atol=1e-4)
    # Nothing of one call is left over for the next.
    np.testing.assert_allclose(reward.score(prompts[:3], TEXTS), -(soup - sft).numpy(), atol=1e-4)


def test_a_short_run_is_a_fifth_of_the_schedule(settings):
    rl = shortened(settings.rl)
    assert (rl.steps, rl.warmup_steps) == (12, 1)
    assert shortened(settings.rl.model_copy(update={"steps": 2})).steps == 1


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
