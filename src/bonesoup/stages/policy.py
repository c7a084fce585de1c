"""policy@GROUP: train the policies of a group, one after another in this process; each row is trained once."""

from bonesoup.files import appearing, read_json
from bonesoup.paths import POLICIES, ROWS
from bonesoup.settings.schema import Settings
from bonesoup.training.rows import train_rows


def run(settings: Settings, key: str) -> None:
    slots = read_json(ROWS / f"{key}.json")["slots"]
    with appearing(POLICIES / key) as folder:
        train_rows(settings, key, slots, folder)
