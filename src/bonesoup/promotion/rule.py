"""mlflow/promotion.yaml: what a version must show to become the champion."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from bonesoup.settings.params import faults_of, parse_yaml
from bonesoup.settings.schema import Section

RULE = Path("mlflow/promotion.yaml")
METRIC = (
    r"^(inner_product(_(interior|edge|vertex))?|controllability|cardinality|sparsity|spacing|hypervolume@-?[\d.]+)$"
)

NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Gain(Section):
    metric: str = Field(pattern=METRIC, description="of the report, without its unit")
    better: Literal["higher", "lower"] = Field(description="which direction is a gain")
    min_gain: NotNegative = Field(description="the paired interval of the gain must lie above this")


class Tolerance(Section):
    tolerance: NotNegative = Field(description="how much worse is still let through")


class Bound(Section):
    max: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(description="largest value let through")


class Guards(Section):
    controllability: Tolerance
    objectives: Tolerance
    kl: Bound


class Rule(Section):
    schema_: Literal[1] = Field(alias="schema", description="version of this file's layout")
    unit: Literal["best", "gold", "reward"] = Field(description="which score judges")
    gains: list[Gain] = Field(min_length=1, description="what must get better")
    guards: Guards


def load(path: Path) -> Rule:
    """Read and check a rule file.

    Raises:
        ValueError: it is missing, not YAML, or wrong; lists every fault.
    """
    if not path.is_file():
        raise ValueError(f"{path} does not exist: it is the rule of promotion")
    raw = parse_yaml(path.read_bytes(), str(path))
    if not isinstance(raw, dict):
        raise ValueError(f"{path} must be a mapping, found {type(raw).__name__}")
    try:
        return Rule.model_validate(raw)
    except ValidationError as error:
        faults = faults_of(error, raw)
    listing = "\n".join(f"  - {fault}" for fault in faults)
    raise ValueError(f"{path} has {len(faults)} fault{'s' * (len(faults) > 1)}:\n{listing}")
