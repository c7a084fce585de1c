"""Define options that several commands share, and read their values."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bonesoup.settings.schema import Settings

if TYPE_CHECKING:
    from bonesoup.generation.soup import Soup

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


def weights_of(settings: Settings, preference: str, method: str | None) -> list[float]:
    """Read a preference as weights in the order of the objectives; solve an outcome on the method's measured front.

    Raises:
        ValueError: neither a name, nor weights, nor an outcome that can be promised.
    """
    from bonesoup.evaluation.chosen import chosen_method
    from bonesoup.evaluation.outcomes import is_outcome, read_outcome, solve
    from bonesoup.files import read_json
    from bonesoup.paths import MEASURED

    if preference in settings.preferences or not is_outcome(preference):
        return settings.preference(preference)
    outcome = read_outcome(preference, settings.objectives)
    if not MEASURED.is_file():
        raise ValueError(f"{MEASURED} does not exist: an outcome needs a measured front, `bonesoup run` makes it")
    promise = solve(outcome, read_json(MEASURED), method or chosen_method(settings.register_))
    # Standard output is for answers.
    typer.echo(promise.text, err=True)
    return list(promise.preference.values())


def soup_of(settings: Settings, method: str | None) -> "Soup":
    """Read the soup of a method from this project's run; by default of the method that the run registers.

    Raises:
        ValueError: there is none.
    """
    from bonesoup.evaluation.chosen import chosen_method
    from bonesoup.paths import SOUPS

    method = method or chosen_method(settings.register_)
    path = SOUPS / f"{method}.json"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in SOUPS.glob("*.json"))) or "none yet: `bonesoup run` makes them"
        raise ValueError(f"no soup {method!r} in {SOUPS}; there are: {known}")
    # Imported after the cheap checks, since it brings in torch.
    from bonesoup.generation.soup import Soup

    return Soup.read(path)


def pairs(texts: list[str] | None, option: str, example: str) -> dict[str, str]:
    """Split several NAME=VALUE.

    Raises:
        typer.BadParameter: naming the option, if a part is missing or a name comes twice.
    """
    split: dict[str, str] = {}
    for text in texts or []:
        name, value = (part.strip() for part in text.partition("=")[::2])
        if not name or not value:
            raise typer.BadParameter(f"{option} is {text!r}, expected a name and a value such as {example}")
        if name in split:
            raise typer.BadParameter(f"{option} names {name} twice")
        split[name] = value
    return split
