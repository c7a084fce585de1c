"""The head of every model that is loaded gets contiguous hidden states, and gives the same numbers."""

import ast
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM
from trl.trainer.utils import selective_log_softmax

import bonesoup
from bonesoup.generation.sample import Response, log_probabilities, sample
from bonesoup.generation.soup import Soup, SoupModel
from bonesoup.weights.pretrained import load_model, load_tokenizer

PROMPTS = [[{"role": "user", "content": text}] for text in ("Please explain baking", "how", "Please explain")]


def seen_by(head: torch.nn.Module) -> list[torch.Tensor]:
    """Record the hidden states that a head multiplies from now on."""
    seen = []
    product = head.forward
    head.forward = lambda x: seen.append(x) or product(x)
    return seen


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sliced_log_probabilities_are_those_of_all_positions(tiny_policy, dtype):
    """TRL's way (`logits_to_keep`, then a softmax of the sampled tokens) next to the whole forward pass."""
    model = load_model(AutoModelForCausalLM, tiny_policy, dtype=dtype).requires_grad_(False).eval()
    ids = torch.randint(5, model.config.vocab_size, (4, 12), generator=torch.Generator().manual_seed(0))
    seen = seen_by(model.get_output_embeddings())
    sliced = model(ids, logits_to_keep=6).logits[:, :-1]
    assert seen[0].shape[1] == 6
    assert seen[0].is_contiguous()
    whole = model(ids).logits[:, -6:-1]
    exact = {} if dtype == torch.float32 else {"atol": 0.02, "rtol": 0.02}
    torch.testing.assert_close(
        selective_log_softmax(sliced, ids[:, -5:]), selective_log_softmax(whole, ids[:, -5:]), **exact
    )


def test_sampling_and_log_probabilities_multiply_the_head_once(tiny_policy):
    soup = Soup("one", Path(tiny_policy), ("helpful",), "none", (), ())
    policy = SoupModel.load(soup)
    seen = seen_by(policy.model.get_output_embeddings())
    responses = sample(policy.model, policy.tokenizer, PROMPTS, [1, 2, 3], 1.0, 4, 3)
    log_probabilities(policy.model, policy.tokenizer, PROMPTS, responses, 3)
    assert len(seen) > 1
    assert all(x.is_contiguous() for x in seen)


def test_the_mend_is_needed_with_this_torch_and_transformers(tiny_policy):
    """The states come sliced; if this fails one day, the hook can go."""
    model = AutoModelForCausalLM.from_pretrained(tiny_policy)
    seen = seen_by(model.get_output_embeddings())
    log_probabilities(model, load_tokenizer(tiny_policy), PROMPTS[:2], [Response("", [5, 6], False)] * 2, 2)
    assert not any(x.is_contiguous() for x in seen)


def test_no_module_loads_a_language_model_another_way():
    """Training (TRL's included), evaluation and serving all load through `load_model`."""
    strays = []
    for path in Path(bonesoup.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Attribute(value=ast.Name(id="AutoModelForCausalLM"), attr="from_pretrained"):
                    strays.append(f"{path.name}:{node.lineno}")
    assert not strays
