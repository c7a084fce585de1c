"""Define options that several commands share, and read their values."""

from pathlib import Path
from typing import Annotated

import typer

from bonesoup.settings.schema import Settings

PREFERENCE = typer.Option(
    help="a named preference of params.yaml, helpful=0.7,harmless=0.3, or an outcome: 'harmless>=0.2,maximize=helpful'",
    show_default=False,
)
Preference = Annotated[str, PREFERENCE]
Method = Annotated[
    str | None,
    typer.Option(help="which soup of the run; by default that of `register.method`", show_default=False),
]
Base = Annotated[
    Path | None, typer.Option(help="the model of your own adapters: a Transformers folder", show_default=False)
]
Adapters = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=DIR", help="a LoRA adapter of that model; may be repeated", show_default=False),
]


def method_of(settings: Settings, method: str | None) -> str:
    """Return the method of --method, by default the one that the run registers."""
    from bonesoup.evaluation.chosen import chosen_method

    return method or chosen_method(settings.register_)


def weights_of(settings: Settings, preference: str, method: str | None) -> list[float]:
    """Read a preference as weights in the order of the objectives; solve an outcome on the method's measured front.

    Raises:
        ValueError: neither a name, nor weights, nor an outcome that can be promised.
    """
    from bonesoup.evaluation.outcomes import is_outcome, read_outcome, solve
    from bonesoup.files import read_json
    from bonesoup.paths import MEASURED

    if preference in settings.preferences or not is_outcome(preference):
        return settings.preference(preference)
    outcome = read_outcome(preference, settings.objectives)
    if not MEASURED.is_file():
        raise ValueError(f"{MEASURED} does not exist: an outcome needs a measured front, `bonesoup run` makes it")
    promise = solve(outcome, read_json(MEASURED), method_of(settings, method))
    # Standard output is for answers.
    typer.echo(promise.text, err=True)
    return list(promise.preference.values())


def recipe(method: str):
    """Return the soup of a method from this project's run.

    Raises:
        ValueError: there is none.
    """
    from bonesoup.paths import SOUPS

    path = SOUPS / f"{method}.json"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in SOUPS.glob("*.json"))) or "none yet: `bonesoup run` makes them"
        raise ValueError(f"no soup {method!r} in {SOUPS}; there are: {known}")
    # Imported after the cheap checks, since it brings in torch.
    from bonesoup.generation.soup import Soup

    return Soup.read(path)


def named(text: str, option: str, example: str) -> tuple[str, str]:
    """Split NAME=VALUE.

    Raises:
        typer.BadParameter: naming the option, if either is missing.
    """
    name, _, value = text.partition("=")
    if not name.strip() or not value.strip():
        raise typer.BadParameter(f"{option} is {text!r}, expected a name and a value such as {example}")
    return name.strip(), value.strip()


def pairs(texts: list[str] | None, option: str, example: str) -> dict[str, str]:
    """Split several NAME=VALUE.

    Raises:
        typer.BadParameter: naming the option, if a part is missing or a name comes twice.
    """
    split: dict[str, str] = {}
    for name, value in (named(text, option, example) for text in texts or []):
        if name in split:
            raise typer.BadParameter(f"{option} names {name} twice")
        split[name] = value
    return split
