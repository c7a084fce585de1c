"""policy@GROUP: train the policies of a group in this process; each row is trained once."""

from collections.abc import Callable
from functools import partial

from bonesoup.files import appearing, read_json
from bonesoup.generation.soup import Policy
from bonesoup.paths import POLICIES, ROWS
from bonesoup.settings.schema import Settings
from bonesoup.training.conditional import train_together
from bonesoup.training.from_soup import train_from_soup
from bonesoup.training.prompted import train_reader
from bonesoup.training.rows import train_rows
from bonesoup.training.task import Collapse


def run(settings: Settings, key: str) -> None:
    plan = read_json(ROWS / f"{key}.json")
    rows, steps, starts = plan["slots"], plan["steps"], plan["starts"]
    alone = rows.keys() - starts.keys() - plan["reads"].keys() - {slot for group in plan["together"] for slot in group}
    with appearing(POLICIES / key) as folder:
        trainings = []
        for count in dict.fromkeys(steps.values()):
            slots = {slot: row for slot, row in rows.items() if steps[slot] == count and slot in alone}
            if slots:
                trainings.append(partial(train_rows, _lasting(settings, count), key, slots, folder))
        for group in plan["together"]:
            slots = {slot: rows[slot] for slot in group}
            trainings.append(partial(train_together, _lasting(settings, steps[group[0]]), key, slots, folder))
        for slot, reads in plan["reads"].items():
            training = _lasting(settings, steps[slot]), key, slot, rows[slot], reads, folder
            trainings.append(partial(train_reader, *training))
        _train_all(trainings)
        for slot, start in starts.items():
            policies = tuple(Policy(name, folder / name, tuple(rows[name])) for name in start)
            train_from_soup(_lasting(settings, steps[slot]), key, slot, rows[slot], policies, folder)


def _train_all(trainings: list[Callable[[], None]]) -> None:
    """Train one after another, whatever becomes of the others.

    Raises:
        Collapse: naming every policy that collapsed, once the others are trained.
    """
    collapsed = []
    for train in trainings:
        try:
            train()
        except Collapse as collapse:
            collapsed.append(str(collapse))
    if collapsed:
        raise Collapse("\n".join(collapsed))


def _lasting(settings: Settings, steps: int) -> Settings:
    return settings.model_copy(update={"rl": settings.rl.lasting(steps)})
