"""Remote datasets and models are pinned by commit: which ones settings name, and which commit the Hub has now."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bonesoup.settings.schema import Data, Model, PretrainedReward, Settings


@dataclass(frozen=True)
class Pin:
    """A setting that pins something on the Hugging Face Hub.

    Attributes:
        key: the setting that holds the commit, such as data.revision.
        kind: dataset or model.
        revision: the commit; None while it has to be looked up.
        branch: whose newest commit is meant.
    """

    key: str
    kind: str
    repository: str
    revision: str | None
    branch: str = "main"


def remote(data: Data | None, model: Model | None, rewards: Mapping[str, Any]) -> list[Pin]:
    """Everything on the Hub that these sections name, pinned or not; a folder on this machine is not there."""
    found = []
    if data and data.hub:
        found.append(Pin("data.revision", "dataset", data.hub, data.revision, data.hub_branch))
    if model and model.source != "scratch":
        found.append(Pin("model.revision", "model", model.source, model.revision))
    for name, reward in rewards.items():
        if isinstance(reward, PretrainedReward):
            found.append(Pin(f"rewards.{name}.revision", "model", reward.model, reward.revision))
    return [pin for pin in found if pin.revision or not Path(pin.repository).is_dir()]


def pins(settings: Settings) -> list[Pin]:
    """Everything remote that the settings name."""
    return remote(settings.data, settings.model, settings.rewards)


def unpinned(pin: Pin) -> str:
    """Why it may not be used: a Hub id without a commit changes under one's feet."""
    return (
        f"{pin.key}: {pin.repository} is no folder here, and a Hub id needs the commit to use; "
        "`bonesoup profile NAME --pin` looks it up"
    )


def newest(pin: Pin) -> str:
    """The commit the Hub has now.

    Raises:
        ConnectionError: the Hub does not answer, or does not know it.
    """
    from huggingface_hub import HfApi

    try:
        # The client's own default where it is main: a repository may have named its first branch otherwise.
        branch = None if pin.branch == "main" else pin.branch
        return HfApi().repo_info(pin.repository, repo_type=pin.kind, revision=branch, timeout=10).sha
    except Exception as error:  # the client raises errors of several libraries
        raise ConnectionError(f"{pin.kind} {pin.repository} could not be looked up: {error}") from error
