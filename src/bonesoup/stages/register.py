"""register: send to MLflow what it lacks. Only files decide what is sent, so it can run again at any time."""

from pathlib import Path

from bonesoup.files import write_json
from bonesoup.paths import REGISTERED
from bonesoup.registry.register import register_all
from bonesoup.settings.params import PARAMS
from bonesoup.settings.schema import Settings


def run(settings: Settings, key: None) -> None:
    write_json(REGISTERED, send(settings))


def send(settings: Settings) -> dict:
    """Send what the tracking store lacks; returns what was sent and the versions there are now."""
    return register_all(
        Path("."),
        PARAMS.read_text(),
        settings.register_,
        settings.preferences,
        echo=lambda line: print(line, flush=True),
    )
