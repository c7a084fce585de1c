"""Profiles that name things on the Hub, with commits made up for tests: nothing is asked of it."""

from bonesoup.settings import profiles
from bonesoup.settings.pins import pins


def made_up(name: str) -> dict[str, str]:
    """Settings that pin all that a profile leaves to --pin."""
    return {pin.key: "0" * 40 for pin in pins(profiles.draft(name)) if not pin.revision}
