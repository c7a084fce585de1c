"""The model card of a registered version, from the template mlflow/model-card.md."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined, TemplateSyntaxError, UndefinedError

TEMPLATE = Path("mlflow/model-card.md")
# What the registry's description column holds.
DESCRIPTION_CHARACTERS = 5000
LICENCE = "apache-2.0"
LICENCE_TEXT = (
    "The code here is under Apache-2.0. Weights trained from scratch on the embedded data are too; otherwise "
    "the licences of the base model, the reward models and the data apply to them."
)


def render(template: Path, values: dict[str, Any]) -> str:
    """The card as Markdown.

    Raises:
        ValueError: the template is missing, is no Jinja template, or names a value that does not exist.
    """
    if not template.is_file():
        raise ValueError(f"{template} does not exist: it is the template of the model cards")
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True)
    environment.globals["weights"] = weights
    try:
        return environment.from_string(template.read_text()).render(
            licence=LICENCE, licence_text=LICENCE_TEXT, **values
        )
    except TemplateSyntaxError as error:
        raise ValueError(f"{template} line {error.lineno}: {error.message}") from None
    except UndefinedError as error:
        raise ValueError(f"{template}: {error.message}") from None


def weights(preference: dict[str, float]) -> str:
    """{'helpful': 0.7, 'harmless': 0.3} -> '0.7 helpful + 0.3 harmless'."""
    return " + ".join(f"{value:g} {name}" for name, value in preference.items())


def description(card: str) -> str:
    """What the registry shows: the card without front matter, cut where the registry would refuse it."""
    text = card.split("---\n", 2)[-1].strip()
    if len(text) <= DESCRIPTION_CHARACTERS:
        return text
    end = "\n\n... the whole card is README.md of this version."
    return text[: DESCRIPTION_CHARACTERS - len(end)] + end
