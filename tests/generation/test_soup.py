"""Live adapters: a soup in memory equals the merged weights, for negative coefficients too."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from bonesoup.files import write_json
from bonesoup.generation.sample import encode, sample
from bonesoup.generation.soup import Soup, SoupModel, merge_adapters
from bonesoup.weights import mix
from bonesoup.weights.fold import fold


@pytest.mark.parametrize("preference", [[1.0, 0.0], [0.5, 0.5], [0.7, 0.3], [0.1, 0.9]])
def test_live_adapters_equal_folded_weights(recipe, prompts, tmp_path, preference):
    live = SoupModel.load(recipe)
    values = live.at(preference)
    adapter, merged = merge_adapters(recipe, preference)
    np.testing.assert_allclose(values, merged)
    fold(recipe.base, adapter, tmp_path / "full")
    dense = AutoModelForCausalLM.from_pretrained(tmp_path / "full").eval()
    inputs = encode(live.tokenizer, prompts)
    with torch.inference_mode():
        torch.testing.assert_close(live.model(**inputs).logits, dense(**inputs).logits, rtol=1e-4, atol=1e-4)


def test_vertex_uses_a_negative_coefficient(recipe):
    np.testing.assert_allclose(recipe.coefficients([1.0, 0.0]), [1.75, -0.75])


def test_scales_are_set_not_multiplied(recipe, prompts):
    live = SoupModel.load(recipe)
    live.at([1.0, 0.0])
    first = sample(live.model, live.tokenizer, prompts, list(range(6)), 1.0, 8, 6)
    live.at([0.0, 1.0])
    other = sample(live.model, live.tokenizer, prompts, list(range(6)), 1.0, 8, 6)
    live.at([1.0, 0.0])
    assert sample(live.model, live.tokenizer, prompts, list(range(6)), 1.0, 8, 6) == first != other


def test_base_alone_is_the_sft_policy(recipe, prompts, tiny_policy):
    live = SoupModel.load(recipe)
    live.at([1.0, 0.0])
    inputs = encode(live.tokenizer, prompts)
    live.base_alone()
    with torch.inference_mode():
        bare = live.model(**inputs).logits
    with torch.inference_mode():
        torch.testing.assert_close(bare, AutoModelForCausalLM.from_pretrained(tiny_policy)(**inputs).logits)


def test_oracles_answer_only_their_own_preferences(recipe):
    soup = Soup("oracle", recipe.base, ("a", "b"), "lookup", recipe.policies, ((0.7, 0.3), (0.3, 0.7)))
    np.testing.assert_array_equal(soup.coefficients([0.3, 0.7]), [0, 1])
    with pytest.raises(ValueError, match=r"soup oracle: no policy for preference \[0.5, 0.5\]"):
        soup.coefficients([0.5, 0.5])


def test_a_preference_may_weigh_more_adapters_than_there_are_objectives(recipe):
    """The diagnosis mixes specialists and short runs: more adapters than objectives."""
    rows = np.eye(4)
    ways = tuple(replace(recipe.policies[0], slot=f"way-{k}", row=tuple(row)) for k, row in enumerate(rows))
    weights = [0.5, 0.5, 1.0, -0.2]
    np.testing.assert_allclose(
        Soup("diagnose", recipe.base, ("a", "b"), "solve", ways, ()).coefficients(weights), weights
    )


@pytest.mark.parametrize("path", ["/etc", "../other", "a/../../other"])
@pytest.mark.parametrize("where", ["base", "policy"])
def test_a_path_out_of_the_soups_folder_is_refused(tmp_path, path, where):
    policy = {"slot": "backbone-1", "path": path if where == "policy" else "backbone-1", "row": [1, 0]}
    soup = {"method": "bone", "base": path if where == "base" else "sft", "objectives": ["a", "b"]}
    write_json(tmp_path / "soup.json", soup | {"mapping": "single", "policies": [policy], "preferences": [[1, 0]]})
    with pytest.raises(ValueError, match="leads out of the soup's folder") as error:
        Soup.read(tmp_path / "soup.json", tmp_path)
    assert repr(path) in str(error.value)


def test_an_extrapolated_soup_moves_on_along_its_change(recipe):
    """theta_sft + scale (theta - theta_sft): coefficients grow by the scale, of every mapping."""
    grown = replace(recipe, scale=(1.25, 1.25))
    np.testing.assert_allclose(grown.coefficients([0.6, 0.4]), 1.25 * recipe.coefficients([0.6, 0.4]))
    np.testing.assert_allclose(replace(grown, mapping="direct").coefficients([0.6, 0.4]), [0.75, 0.5])
    each = replace(recipe, mapping="lookup", scale=(2.0, 1.0))
    np.testing.assert_allclose(each.coefficients([0.7, 0.3]), [1.7, 0])


def test_a_scale_per_objective_aims_at_the_scaled_preference(recipe):
    """lambda = W^-T (scale * mu), so that the rewards the coefficients stand for are scale * mu."""
    rows = np.array([policy.row for policy in recipe.policies])
    values = replace(recipe, scale=(1.5, 1.1)).coefficients([0.6, 0.4])
    np.testing.assert_allclose(rows.T @ values, [0.9, 0.44])


def test_distributions_have_no_adapter(recipe):
    with pytest.raises(ValueError, match="mixes distributions, not weights"):
        merge_adapters(replace(recipe, mixes="distributions"), [0.5, 0.5])


def test_named_adapters_answer_each_row_at_its_own_weights(recipe, prompts, tmp_path):
    """Any base folder and LoRA adapters, without a soup file: rows against the weights that `mix` folds."""
    folders = {policy.slot: policy.path for policy in recipe.policies}
    live = SoupModel.of_adapters(recipe.base, folders)
    inputs = encode(live.tokenizer, prompts[:2])
    rows = [[1.4, -0.4], [0.0, 0.0]]
    live.mix(rows)
    with torch.inference_mode():
        mixed = live.model(**inputs).logits
    weights = dict(zip(folders, rows[0], strict=True))
    fold(recipe.base, mix(recipe.base, folders, weights), tmp_path / "folded")
    for row, folder in enumerate((tmp_path / "folded", recipe.base)):
        dense = AutoModelForCausalLM.from_pretrained(folder).eval()
        with torch.inference_mode():
            torch.testing.assert_close(mixed[row], dense(**inputs).logits[row], atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match=r"does not exist: not the folder of a Transformers model"):
        SoupModel.of_adapters(tmp_path / "nowhere", folders)
