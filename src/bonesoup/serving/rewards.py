"""The rewards of the run that is served: they score answers next to the server's own."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from bonesoup.evaluation.units import UNITS
from bonesoup.files import read_json
from bonesoup.paths import NORMALISER, REWARDS
from bonesoup.settings.schema import Settings

if TYPE_CHECKING:
    from bonesoup.evaluation.front_rows import Scorer


@dataclass(frozen=True, eq=False)
class RunRewards:
    """The rewards of the run in the current folder, loaded when they are first asked."""

    settings: Settings
    lock: Lock = field(default_factory=Lock)

    @cached_property
    def _scorer(self) -> "Scorer":
        # It needs pandas, which serving adapters does without.
        from bonesoup.evaluation.front_rows import scorer_of

        # The true score reads only prompts of its task; a visitor's prompt is any text.
        names = tuple(self.settings.objectives)
        folders = [REWARDS / name for name in names]
        return scorer_of(names, folders, read_json(NORMALISER), gold=None, device=self.settings.device)

    def score(self, messages: list[dict[str, str]], answers: list[str]) -> dict[str, np.ndarray]:
        """Score answers to one conversation: {unit: [answer, objective]}, in standard deviations of the SFT model.

        Raises:
            ValueError: a reward fails on them.
        """
        with self.lock:
            columns = self._scorer.columns([messages] * len(answers), answers)
        names = self.settings.objectives
        return {
            unit: np.stack([columns[f"{unit}_{name}"] for name in names], axis=1)
            for unit in UNITS
            if f"{unit}_{names[0]}" in columns
        }


def rewards_of(settings: Settings, root: Path) -> RunRewards | None:
    """Find the rewards of a run; None if they are not complete, or the run is not in the current folder.

    Their files name each other by paths from there.
    """
    here = root.resolve() == Path.cwd()
    files = [NORMALISER, *(REWARDS / name / "reward.json" for name in settings.objectives)]
    return RunRewards(settings) if here and all(file.is_file() for file in files) else None
