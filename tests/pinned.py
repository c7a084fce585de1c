"""Settings for tests: the default as plain data; profiles with made-up commits, so that the Hub is never asked."""

from pathlib import Path

from bonesoup.settings import profiles

ROOT = Path(__file__).parents[1]


def default() -> dict:
    """Return the embedded default as params.yaml holds it."""
    document = profiles.yaml.load((ROOT / "profiles/embedded.yaml").read_text())
    profiles.fill(document, {})
    return profiles.plain(document)


def made_up(name: str) -> dict[str, str]:
    """Make settings that pin all that a profile leaves to --pin."""
    return {pin.key: "0" * 40 for pin in profiles.draft(name).pins() if not pin.revision}
