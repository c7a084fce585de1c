"""One policy that reads the preference in its prompt, trained on preferences drawn for every prompt.

The base is the SFT policy with a token for each objective and level, whose embeddings stay as they are drawn. An
adapter learns to read them, by RLOO on mu . rewards as every other policy. The tokens have no probability, so that the
distribution of the base on a plain prompt is that of the SFT policy, which the KL penalty is measured to.
"""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from transformers import AutoModelForCausalLM

from bonesoup.chat import check_context
from bonesoup.files import appearing, digest
from bonesoup.generation.sample import render
from bonesoup.paths import OWN_BASE
from bonesoup.settings.schema import Settings
from bonesoup.training.goals import Stated
from bonesoup.training.joint import train_goal
from bonesoup.training.reward_tokens import add_tokens, untie
from bonesoup.training.rows import inputs, store_policy
from bonesoup.training.scratch import scratch
from bonesoup.training.task import Task, task
from bonesoup.weights.pretrained import load_model, load_tokenizer


def train_reader(
    settings: Settings, group: str, slot: str, row: list[float], reads: Literal["own", "others"], folder: Path
) -> None:
    """Train a policy and write its adapter, and the base that has the tokens, into folder/<slot>.

    Args:
        row: the mean of the preferences.
        reads: which preferences the prompts state, see `Training`.

    Raises:
        Collapse: KL above its limit, entropy below its limit.
        ValueError: a prompt does not fit the context with a token for each objective.
    """
    fingerprint = digest("prompt", reads, inputs(settings, __name__))
    with scratch(fingerprint) as place:
        common = task(settings)
        adapter = train_prompted(common, Stated(common.seed, settings.objectives, reads == "others"), place)
        facts = {"steps": settings.rl.steps, "fingerprint": fingerprint}
        store_policy(adapter, folder, settings, group, slot, row, facts)
        shutil.copytree(place / OWN_BASE, folder / slot / OWN_BASE)


def train_prompted(task: Task, goal: Stated, scratch: Path) -> Path:
    """Train in `scratch`, from the newest checkpoint there; see `train_reader`.

    Returns:
        Folder in scratch of the adapter; its base lies next to it.
    """
    base = scratch / OWN_BASE
    if not base.is_dir():
        extend(task.base, base, goal.objectives, task.seed)
    tokenizer = load_tokenizer(base)
    texts = render(tokenizer, task.prompts)
    extra = task.generation.max_new_tokens + len(goal.objectives)
    names = [f"training prompt {k}" for k in range(len(texts))]
    check_context(tokenizer, names, texts, extra, "prompts with the tokens of a preference and responses")
    (adapter,) = train_goal(replace(task, base=base), "policy that reads the preference", goal, scratch)
    return adapter


def extend(base: Path, folder: Path, objectives: list[str], seed: int) -> None:
    """Write the model of `base` with tokens for the preference to `folder`."""
    tokenizer, model = load_tokenizer(base), load_model(AutoModelForCausalLM, base)
    torch.manual_seed(seed)
    add_tokens(model, tokenizer, objectives)
    untie(model)
    with appearing(folder) as temporary:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
