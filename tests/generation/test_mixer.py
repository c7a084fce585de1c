"""A mixture per row equals the merged weights row by row: for any coefficients, ranks, targets and architecture."""

import architectures
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft import PeftModel
from transformers import AutoModelForCausalLM

from bonesoup.generation.mixer import Mixer
from bonesoup.weights.adapter_files import load
from bonesoup.weights.adapters import Adapter

ONCE = settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
COEFFICIENT = st.floats(-2, 2, width=32)


def steered(mixed_policies):
    base, policies = mixed_policies
    model = AutoModelForCausalLM.from_pretrained(base).eval()
    return model, Mixer(model, [load(path) for path in policies])


def merged_by_peft(mixed_policies, coefficients):
    """Make the dense model: every adapter scaled by PEFT and merged by PEFT into the weights."""
    base, policies = mixed_policies
    model = AutoModelForCausalLM.from_pretrained(base).eval()
    for path, value in zip(policies, coefficients, strict=True):
        tuned = PeftModel.from_pretrained(model, path)
        for module in tuned.modules():
            if hasattr(module, "set_scale"):
                module.set_scale("default", float(value))
        model = tuned.merge_and_unload()
    return model.eval()


@torch.inference_mode()
def logits(model, ids):
    return model(input_ids=ids).logits


@ONCE
@given(rows=st.lists(st.tuples(COEFFICIENT, COEFFICIENT, COEFFICIENT), min_size=1, max_size=3))
def test_each_row_equals_the_model_that_peft_merges_for_it(mixed_policies, rows):
    model, mixer = steered(mixed_policies)
    ids = torch.randint(0, 90, (len(rows), 9), generator=torch.Generator().manual_seed(0))
    mixer.set(torch.tensor(rows, dtype=torch.float64))
    mixed = logits(model, ids)
    for row, coefficients in enumerate(rows):
        expected = logits(merged_by_peft(mixed_policies, coefficients), ids[row : row + 1])[0]
        scale = expected.abs().max()
        torch.testing.assert_close(mixed[row] / scale, expected / scale, rtol=0, atol=3e-5)


def test_folding_one_mixture_equals_mixing_every_row_and_comes_out_again_exactly(mixed_policies):
    model, mixer = steered(mixed_policies)
    ids = torch.randint(0, 90, (4, 9), generator=torch.Generator().manual_seed(0))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    alone = logits(model, ids)
    coefficients = torch.tensor([1.75, -0.75, 0.4])
    mixer.set(coefficients[None])
    mixed = logits(model, ids)
    mixer.fold(coefficients)
    torch.testing.assert_close(logits(model, ids), mixed, rtol=1e-4, atol=1e-4)
    assert (mixed - alone).abs().max() > 0.1
    mixer.fold(2 * coefficients)
    mixer.set(None)
    assert torch.equal(logits(model, ids), alone)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_in_half_precision_a_mixture_is_as_close_as_merged_weights_are(mixed_policies):
    """Against float32: rounding the factors and the mixture costs no more than rounding the merged weights does."""
    ids = torch.randint(0, 90, (4, 9), generator=torch.Generator().manual_seed(0))
    coefficients = torch.tensor([1.75, -0.75, 0.4])
    exact, mixer = steered(mixed_policies)
    mixer.set(coefficients[None])
    expected = logits(exact, ids)
    base, policies = mixed_policies
    half = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16).eval()
    mixer = Mixer(half, [load(path) for path in policies])
    mixer.set(coefficients[None])
    mixed = (logits(half, ids).float() - expected).norm()
    mixer.fold(coefficients)
    merged = (logits(half, ids).float() - expected).norm()
    assert mixed < 1.5 * merged


def test_a_tied_head_is_folded_without_touching_the_embeddings():
    model = architectures.base("qwen2")
    adapter = Adapter({}, {"lm_head": (torch.randn(2, 32), torch.randn(90, 2))}, {"lm_head": 1.0})
    mixer = Mixer(model, [adapter])
    ids = torch.arange(6)[None]
    mixer.set(torch.ones(1, 1))
    mixed = logits(model, ids)
    mixer.fold(torch.ones(1))
    torch.testing.assert_close(logits(model, ids), mixed, rtol=1e-4, atol=1e-4)


def test_policies_that_no_row_uses_are_left_out_where_they_come_last(mixed_policies):
    _, mixer = steered(mixed_policies)
    mixer.set(torch.tensor([[0.5, 0.0, 0.0], [-1.0, 0.0, 0.0]]))
    assert {scale.shape for scale in mixer.scales.values()} == {(2, 1, 2)}
    mixer.set(torch.zeros(3, 3))
    assert mixer.scales == {}


def sequential():
    model = torch.nn.Sequential(torch.nn.Linear(4, 4))
    model.base_model_prefix = "model"
    return model


def test_a_layer_that_does_not_see_rows_is_refused_by_name():
    model = sequential()
    mixer = Mixer(model, [Adapter({}, {"0": (torch.ones(1, 4), torch.ones(4, 1))}, {"0": 1.0})])
    mixer.set(torch.ones(2, 1))
    with pytest.raises(RuntimeError, match=r"0 was given \[6, 4\] for 2 rows"):
        model(torch.ones(6, 4))


@pytest.mark.parametrize(
    ("module", "shape", "message"),
    [
        ("1", 4, "policy 0 changes module 1, which the base model does not have"),
        ("", 4, "a Sequential: expected a linear layer"),
        ("0", 5, r"adds \[out, in\] = \[4, 5\], the weight in the base model is \[4, 4\]"),
    ],
)
def test_an_adapter_of_another_base_is_refused(module, shape, message):
    model = sequential()
    adapter = Adapter({}, {module: (torch.ones(1, shape), torch.ones(4, 1))}, {module: 1.0})
    with pytest.raises(ValueError, match=message):
        Mixer(model, [adapter])
