"""Conditional Language Policy: one adapter per objective, mixed by the preference while they are trained together.

At the weights theta(mu) = theta_sft + sum_j mu_j (theta_j - theta_sft) each prompt of a step is answered for a
preference mu of its own, and scored by mu . rewards. The gradient with respect to theta_j is then mu_j times that of
theta(mu): what Rewarded Soup does to weights after training, CLP does during it.

Wang et al., EMNLP Findings 2024, arXiv 2407.15762. The paper takes the distribution of preferences as given; here it is
uniform over the simplex.
"""

from pathlib import Path

from bonesoup.files import digest
from bonesoup.settings.schema import Settings
from bonesoup.training.goals import EveryPreference
from bonesoup.training.joint import train_goal
from bonesoup.training.rows import inputs, store_policy
from bonesoup.training.scratch import scratch
from bonesoup.training.task import task


def train_together(settings: Settings, group: str, slots: dict[str, list[float]], folder: Path) -> None:
    """Train the adapters of `slots` {slot: vertex [objective]}, one for each objective in order, into folder/<slot>.

    Raises:
        Collapse: KL above its limit, entropy below its limit.
    """
    fingerprint = digest("together", inputs(settings, __name__))
    with scratch(fingerprint) as place:
        common = task(settings)
        goal = EveryPreference(common.seed, len(slots))
        adapters = train_goal(common, "conditional policy", goal, place)
        for (slot, row), adapter in zip(slots.items(), adapters, strict=True):
            facts = {"steps": settings.rl.steps, "together": list(slots), "fingerprint": fingerprint}
            store_policy(adapter, folder, settings, group, slot, row, facts)
