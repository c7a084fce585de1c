"""Define what every section of params.yaml builds on: strict, frozen, with faults collected for the whole file."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo

from bonesoup.settings.pins import Pin

# How a value that follows from others gets into the file.
FILL = "`bonesoup profile --fill` fills it in"
Share = Annotated[float, Field(ge=0, le=1)]
Part = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(gt=0)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$")]


@dataclass
class Check:
    """Faults and pins that validators collect while a whole file is checked; the context of that check.

    A rule that spans keys reports here and accepts the value, so that it hides no other rule.

    Attributes:
        faults: 'key: what is wrong'.
        pins: everything on the Hugging Face Hub that the file names.
    """

    faults: list[str] = field(default_factory=list)
    pins: list[Pin] = field(default_factory=list)


def report(info: ValidationInfo, faults: Iterable[str]) -> None:
    """Pass faults to the check of the whole file; raise them if the section is validated alone.

    Raises:
        ValueError: there are faults and no check to collect them.
    """
    listed = list(faults)
    if info.context is not None:
        info.context.faults += listed
    elif listed:
        raise ValueError("; ".join(listed))


def note(info: ValidationInfo, pins: Iterable[Pin]) -> None:
    if info.context is not None:
        info.context.pins += pins


class Section(BaseModel):
    """A part of params.yaml. Strict: a number in quotes is no number, and `true` is not 1."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, protected_namespaces=())
