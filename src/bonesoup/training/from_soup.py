"""Train from a Rewarded Soup on the reward of a preference: its gain is the soup's regret there.

The trainer, its schedule and its objective are those of every policy. It starts from the merged soup, which is then
also its reference, while the objective's penalty is the divergence from the SFT policy. As log(pi / sft) =
log(pi / soup) + log(soup / sft), and the last term is a known function of the response, it becomes one more reward.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from bonesoup.files import digest, file_digest
from bonesoup.generation.sample import Messages, Response, log_probabilities_of
from bonesoup.generation.soup import Policy, Soup, SoupModel, merge_adapters
from bonesoup.paths import SFT
from bonesoup.rewards.normalise import Normaliser
from bonesoup.rewards.score import Reward
from bonesoup.settings.schema import Settings
from bonesoup.training.joint import train_policy
from bonesoup.training.rows import inputs, store_policy
from bonesoup.training.scratch import scratch
from bonesoup.training.task import Task, task
from bonesoup.weights.fold import fold


def train_from_soup(
    settings: Settings, group: str, slot: str, row: list[float], policies: tuple[Policy, ...], folder: Path
) -> None:
    """Train a slot from the soup of `policies` at the slot's row [objective] into folder/<slot>."""
    soup = Soup(slot, SFT, tuple(settings.objectives), "solve", policies, ())
    adapter = run_from_soup(settings, task(settings), SoupModel.load(soup, settings.device), row, slot)
    facts = {"steps": settings.rl.steps, "fingerprint": adapter.parent.name}
    start = [policy.slot for policy in policies]
    store_policy(adapter, folder, settings, group, slot, row, facts | {"start": start})


def run_from_soup(settings: Settings, task: Task, policy: SoupModel, preference: list[float], name: str) -> Path:
    """Train from the soup at `preference` [objective]; resumes, and repeats nothing that is finished.

    Args:
        task: of a policy.
        policy: the soup, of specialists.

    Returns:
        Folder of an adapter that adds to the soup.
    """
    start = [file_digest(item.path / "adapter_model.safetensors") for item in policy.policies]
    with scratch(digest("short run", start, preference, inputs(settings, __name__))) as folder_of_run:
        base = folder_of_run / "base"
        if not base.is_dir():
            fold(task.base, merge_adapters(policy.soup, preference)[0], base)
        scale = task.normaliser
        task = replace(
            task,
            base=base,
            rewards=[*task.rewards, drift(policy, preference, settings)],
            normaliser=Normaliser(np.append(scale.mean, 0), np.append(scale.std, 1)),
            rl=settings.rl,
        )
        return train_policy(task, name, [*preference, settings.rl.kl], folder_of_run)


def drift(policy: SoupModel, preference: list[float], settings: Settings) -> Reward:
    """Make a reward of -log(soup / sft) of a response, in nats."""
    temperature, limit = settings.generation.temperature, settings.generation.max_new_tokens

    def scores(prompts: list[Messages], texts: list[str]) -> np.ndarray:
        responses = [_encoded(policy, text, limit) for text in texts]
        arguments = policy.model, policy.tokenizer, prompts, responses, temperature
        policy.at(preference)
        soup = log_probabilities_of(*arguments)
        policy.base_alone()
        return (log_probabilities_of(*arguments) - soup).double().numpy()

    return Reward("drift", scores)


def _encoded(policy: SoupModel, text: str, limit: int) -> Response:
    """Return the tokens of a scored text, with the end token if the text is shorter than the limit."""
    ids = policy.tokenizer(text, add_special_tokens=False)["input_ids"][:limit]
    finished = len(ids) < limit
    return Response(text, ids + [policy.tokenizer.eos_token_id] * finished, finished)
