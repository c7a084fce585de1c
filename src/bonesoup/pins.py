"""Remote datasets and models are pinned by commit; this looks up whether a newer one exists. Changes nothing."""

from dataclasses import dataclass

from bonesoup.config import PretrainedReward, Settings


@dataclass(frozen=True)
class Pin:
    """A setting that pins something on the Hugging Face Hub.

    Attributes:
        key: the setting that holds the commit, such as data.revision.
        kind: dataset or model.
    """

    key: str
    kind: str
    repository: str
    revision: str


def pins(settings: Settings) -> list[Pin]:
    """Everything remote that the settings name."""
    found = []
    if settings.data.hub:
        found.append(Pin("data.revision", "dataset", settings.data.hub, settings.data.revision))
    if settings.model.revision:
        found.append(Pin("model.revision", "model", settings.model.source, settings.model.revision))
    for name, reward in settings.rewards.items():
        if isinstance(reward, PretrainedReward) and reward.revision:
            found.append(Pin(f"rewards.{name}.revision", "model", reward.model, reward.revision))
    return found


def newest(pin: Pin) -> str:
    """The commit the Hub has now.

    Raises:
        ConnectionError: the Hub does not answer, or does not know it.
    """
    from huggingface_hub import HfApi

    try:
        return HfApi().repo_info(pin.repository, repo_type=pin.kind, timeout=10).sha
    except Exception as error:  # the client raises errors of several libraries
        raise ConnectionError(f"{pin.kind} {pin.repository} could not be looked up: {error}") from error
