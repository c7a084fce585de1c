"""seek: choose beta. With the one value of basis.beta there is nothing to compare, and it passes through."""

from bonesoup.config import Settings
from bonesoup.files import write_json
from bonesoup.paths import BETA


def run(settings: Settings, key: None) -> None:
    write_json(BETA, {"beta": settings.basis.beta})
