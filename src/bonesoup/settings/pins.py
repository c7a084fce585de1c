"""Pin datasets and models of the Hugging Face Hub by commit, and look up which commit the Hub has now."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Pin:
    """A setting that pins something on the Hugging Face Hub.

    Attributes:
        key: the setting that holds the commit, such as data.revision.
        kind: dataset or model.
        revision: the commit; None while it has to be looked up.
        branch: the branch to take the newest commit of.
    """

    key: str
    kind: str
    repository: str
    revision: str | None
    branch: str = "main"


def pinned(key: str, kind: str, repository: str, revision: str | None, branch: str = "main") -> list[Pin]:
    """Return the pin of a repository; none for a folder of this machine without a commit."""
    local = not revision and Path(repository).is_dir()
    return [] if local else [Pin(key, kind, repository, revision, branch)]


def unpinned(pin: Pin) -> str:
    """Say why it may not be used: a Hub id without a commit can change at any time."""
    return (
        f"{pin.key}: {pin.repository} is no folder here, and a Hub id needs the commit to use; "
        "`bonesoup profile NAME --pin` looks it up"
    )


def newest(pin: Pin) -> str:
    """Ask the Hub for the newest commit.

    Raises:
        ConnectionError: the Hub does not answer, or does not know it.
    """
    from huggingface_hub import HfApi

    try:
        # `main` is only the client's default: a repository may name its first branch differently.
        branch = None if pin.branch == "main" else pin.branch
        return HfApi().repo_info(pin.repository, repo_type=pin.kind, revision=branch, timeout=10).sha
    except Exception as error:  # the client raises errors from several libraries
        raise ConnectionError(f"{pin.kind} {pin.repository} could not be looked up: {error}") from error
