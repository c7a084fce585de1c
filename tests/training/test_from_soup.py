"""The reward with which a run from a soup has the same objective as a run from SFT."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from architectures import policy
from transformers import AutoModelForCausalLM, AutoTokenizer

from bonesoup import imports
from bonesoup.generation.sample import Response, log_probabilities
from bonesoup.generation.soup import Policy, Soup, SoupModel, merge_adapters
from bonesoup.paths import REWARDS
from bonesoup.settings.params import load
from bonesoup.settings.schema import Generation
from bonesoup.training.from_soup import drift, run_from_soup
from bonesoup.training.task import task
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
    assert [len(response.token_ids) for response in responses] == [3, 4, 4]
    soup, sft = (
        log_probabilities(AutoModelForCausalLM.from_pretrained(folder), tokenizer, prompts[:3], responses, 3, 0.7)
        for folder in (tmp_path / "soup", tiny_policy)
    )
    assert (soup - sft).abs().min() > 0.01
    reward = drift(SoupModel.load(recipe), preference, settings)
    np.testing.assert_allclose(reward.score(prompts[:3], TEXTS), -(soup - sft).numpy(), atol=1e-4)
    # Nothing of one call is left over for the next.
    np.testing.assert_allclose(reward.score(prompts[:3], TEXTS), -(soup - sft).numpy(), atol=1e-4)


def test_a_fix_in_a_module_below_trains_again_and_going_back_takes_what_is_there(
    staged, tiny_policy, monkeypatch, tmp_path_factory
):
    """A fix in weights/fold.py once re-ran the stage, which then took the adapter of the faulty fold."""
    raw = load(imports.PACKAGE.parents[1] / "params.yaml")
    rl = raw.rl.model_copy(update={"steps": 1, "prompts": 2, "generations": 2, "micro_batch": 4, "warmup_steps": 0})
    short = raw.model_copy(
        update={"rl": rl, "generation": Generation(temperature=1.0, max_new_tokens=2), "objectives": ["a", "b"]}
    )
    adapters = [policy(tiny_policy, staged / str(k), k, r=2, target_modules="all-linear") for k in (1, 2)]
    policies = tuple(Policy(path.name, path, row) for path, row in zip(adapters, [(1, 0), (0, 1)], strict=True))
    model = SoupModel.load(Soup("rewarded", tiny_policy, ("a", "b"), "solve", policies, ()))
    for name in ("a", "b"):
        (REWARDS / name).symlink_to((REWARDS / "helpful").absolute())

    def trained() -> Path:
        return run_from_soup(short, task(short), model, [0.5, 0.5], "run").parent

    package = tmp_path_factory.mktemp("copy") / "bonesoup"
    first = trained()
    shutil.copytree(imports.PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    with open(package / "weights/fold.py", "a") as file:
        file.write("\n\nFIXED = True\n")
    with monkeypatch.context() as changed:
        changed.setattr(imports, "PACKAGE", package)
        assert trained() != first
    assert trained() == first
    assert len([folder for folder in first.parent.iterdir() if folder.is_dir()]) == 2


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
