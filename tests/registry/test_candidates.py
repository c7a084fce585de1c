"""A soup other than Bone Soup is registered: its policies, its mapping, its merged weights."""

import shutil

import numpy as np
import pytest
import torch
from miniature import GRID, OBJECTIVES
from peft import LoraConfig, get_peft_model
from ruamel.yaml import YAML
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from bonesoup.files import write_json
from bonesoup.generation.soup import Soup, SoupModel
from bonesoup.registry.candidates import candidates, merge
from bonesoup.settings.schema import Register
from bonesoup.weights.adapter_files import WEIGHTS

ROWS = {"curve-1": [1.0, 0.0], "curve-2": [0.0, 1.0], "curve-3": [0.5, 0.5]}


@pytest.fixture(scope="module")
def curved(miniature, tmp_path_factory):
    """Make (root, settings) of a run whose Curved Soup is to be registered."""
    root = tmp_path_factory.mktemp("curved") / "project"
    shutil.copytree(miniature.root, root, ignore=shutil.ignore_patterns("var", ".dvc", ".git"))
    policies = []
    for k, (slot, row) in enumerate(ROWS.items()):
        torch.manual_seed(20 + k)
        config = LoraConfig(r=2, lora_alpha=4, target_modules="all-linear", init_lora_weights=False)
        policy = get_peft_model(AutoModelForCausalLM.from_pretrained(root / "out/sft"), config)
        policy.save_pretrained(root / "out/policies/curves" / slot)
        policies.append({"slot": slot, "path": f"out/policies/curves/{slot}", "row": row, "digest": str(k)})
    policies[2]["start"] = ["curve-1", "curve-2"]
    soup = {"method": "curved", "base": "out/sft", "objectives": OBJECTIVES, "mapping": "curved"}
    write_json(root / "out/soups/curved.json", soup | {"policies": policies, "preferences": GRID})
    settings = YAML(typ="safe").load(miniature.settings_text)
    return root, settings | {"methods": [*settings["methods"], "curved"]}


def test_the_soup_that_the_settings_name_is_registered_without_its_corrections(curved, miniature):
    """A correction is no policy by itself: it adds to the soup that it was trained from."""
    root, settings = curved
    register = Register(name="b", method="curved", merged=["balanced", "careful"])
    listed = candidates(root, settings, register, miniature.preferences, None)
    by_name = {candidate.name: candidate for candidate in listed}
    assert list(by_name) == ["b-curve-1", "b-curve-2", "b-soup", "b-merged-balanced", "b-merged-careful"]
    assert by_name["b-soup"].soup["mapping"] == "curved"
    assert {"curve-3", "specialist-1"} <= set(by_name["b-soup"].folders)
    assert by_name["b-soup"].rewarded["method"] == "rewarded"
    assert by_name["b-merged-balanced"].coefficients == {"curve-1": 0.5, "curve-2": 0.5, "curve-3": 1.0}
    assert by_name["b-merged-careful"].coefficients == pytest.approx({"curve-1": 0.2, "curve-2": 0.8, "curve-3": 0.64})


def test_merged_weights_of_coefficients_that_do_not_sum_to_one(curved, tmp_path):
    """The folder equals the soup in memory, and the sum written out with dense matrices."""
    root, _ = curved
    soup = Soup.read(root / "out/soups/curved.json", root)
    values = soup.coefficients([0.2, 0.8])
    assert values.sum() == pytest.approx(1.64)
    merge(root, "curved", dict(zip(ROWS, values.tolist(), strict=True)), tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    module = "model.layers.0.mlp.up_proj"
    expected = AutoModelForCausalLM.from_pretrained(root / "out/sft").get_submodule(module).weight.detach().clone()
    for policy, value in zip(soup.policies, values, strict=True):
        # Scale alpha / rank = 2.
        a, b = (tensor for key, tensor in sorted(load_file(policy.path / WEIGHTS).items()) if module in key)
        expected += value * 2 * b @ a
    torch.testing.assert_close(merged.get_submodule(module).weight.detach(), expected, atol=1e-5, rtol=1e-5)
    ids = torch.tensor([[5, 6, 7, 8]])
    live = SoupModel.load(soup)
    live.at([0.2, 0.8])
    with torch.inference_mode():
        torch.testing.assert_close(live.model(ids).logits, merged(ids).logits, atol=1e-4, rtol=1e-4)
        live.mix(np.stack([soup.coefficients([0.2, 0.8]), soup.coefficients([1.0, 0.0])]))
        torch.testing.assert_close(live.model(ids.repeat(2, 1)).logits[:1], merged(ids).logits, atol=1e-4, rtol=1e-4)


def test_a_soup_that_the_run_did_not_make_is_not_registered(miniature):
    settings = YAML(typ="safe").load(miniature.settings_text)
    register = Register(name="b", method="lattice", merged=[])
    assert candidates(miniature.root, settings, register, miniature.preferences, None) == []
