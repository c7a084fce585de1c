"""register: send to MLflow what it lacks. Only files decide what is sent, so it can run again at any time."""

from bonesoup import config
from bonesoup.config import Settings
from bonesoup.files import write_json
from bonesoup.paths import REGISTERED


def run(settings: Settings, key: None) -> None:
    raise NotImplementedError
