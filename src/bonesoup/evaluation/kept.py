"""Keep what an evaluation has done so far, so that one that was killed resumes bit for bit."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from bonesoup.files import digest, file_digest
from bonesoup.generation.soup import Policy, Soup
from bonesoup.imports import code_digest
from bonesoup.paths import NORMALISER, REWARDS, SCRATCH
from bonesoup.settings.schema import Settings

FRONTS = SCRATCH / "fronts"


@contextmanager
def kept(settings: Settings, soup: Soup, prompts: list[dict]) -> Iterator[Path]:
    """Name a folder after everything that decides the rows of a front, and remove it once they are in place.

    After an error or a kill the folder stays, and the next call with the same inputs finds what is in it.
    """
    folder = FRONTS / _fingerprint(settings, soup, prompts)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def _fingerprint(settings: Settings, soup: Soup, prompts: list[dict]) -> str:
    """Digest models, prompts, scores, settings, libraries and code."""
    bases = [file_digest(path) for path in (soup.base, soup.reference) if path]
    # Where the policies lie does not matter.
    policies = [_digests(policy) for policy in soup.policies]
    recipe = repr(replace(soup, base=Path(), reference=None, policies=()))
    scores = [file_digest(NORMALISER), *(file_digest(REWARDS / name) for name in settings.objectives)]
    if settings.data.source == "embedded":
        scores.append(file_digest(Path(settings.data.path)))
    chosen = [settings.generation.model_dump(), settings.evaluation.batch, settings.seed]
    machine = [settings.threads, settings.device, version("torch"), version("transformers")]
    code = code_digest("bonesoup.evaluation.front_rows")
    return digest(bases, policies, recipe, prompts, scores, chosen, machine, code)


def _digests(policy: Policy) -> list:
    files = [file_digest(policy.path / name) for name in ("adapter_model.safetensors", "adapter_config.json")]
    return [policy.slot, policy.row, *files]
