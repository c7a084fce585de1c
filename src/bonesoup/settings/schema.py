"""Define params.yaml as one frozen class, `Settings`, with validators for the rules that span its sections.

The field descriptions are the source of docs/settings.md.
"""

from typing import Any, Literal

from pydantic import Field, ValidationInfo, ValidatorFunctionWrapHandler, field_validator

from bonesoup.method.methods import METHODS
from bonesoup.method.preferences import parse_weights, preference_faults
from bonesoup.settings import rules
from bonesoup.settings.evaluation import DataGate, Estimate, Evaluation, Gates, Register, Report, RewardGate
from bonesoup.settings.pins import Pin
from bonesoup.settings.section import FILL, Check, Count, Name, Section, note, report
from bonesoup.settings.sources import (
    LABELS,
    Data,
    FunctionReward,
    HeadReward,
    LabelReward,
    Model,
    PairReward,
    PretrainedReward,
    Reward,
    RewardInput,
    Sizes,
    reward_faults,
    reward_pins,
    source_faults,
)
from bonesoup.settings.training import (
    Basis,
    Diagnosis,
    Extrapolation,
    Generation,
    Group,
    Hardware,
    Limits,
    Lora,
    Normalise,
    Ric,
    Rl,
    Seek,
    Sft,
)

# Other packages import every section from here.
__all__ = [
    "Check",
    "Data",
    "DataGate",
    "Estimate",
    "FILL",
    "FunctionReward",
    "Generation",
    "Hardware",
    "HeadReward",
    "LABELS",
    "LabelReward",
    "Limits",
    "Lora",
    "Model",
    "Name",
    "PairReward",
    "PretrainedReward",
    "Register",
    "Reward",
    "RewardGate",
    "RewardInput",
    "Ric",
    "Rl",
    "Section",
    "Settings",
    "Sft",
    "Sizes",
]


class Settings(Section):
    """Everything a run depends on. One file, params.yaml, holds it.

    A validator sees the valid ones among the fields above its own in `info.data`; see `rules`.
    """

    schema_: int = Field(alias="schema", description="version of the file layout")
    seed: int = Field(ge=0, description="seed of data, initialisation, rollouts and evaluation sampling")
    threads: Count = Field(description="CPU threads per stage; also affects float rounding, and so results")
    device: Literal["cpu", "cuda"] = Field(description="where models train and generate")
    objectives: list[Name] = Field(
        min_length=2, description="names of the objectives; every list of weights follows their order"
    )
    data: Data
    gates: Gates
    model: Model
    sft: Sft | None = Field(description="supervised fine-tuning; null uses the base as it is")
    rewards: dict[Name, Reward] = Field(description="one reward per objective")
    generation: Generation
    normalise: Normalise
    evaluation: Evaluation
    basis: Basis
    seek: Seek = Field(Seek(), description="the search for beta")
    extrapolation: Extrapolation = Field(Extrapolation(), description="scaling beyond the trained policies")
    oracles: list[list[float]] = Field(
        description="preferences for which an oracle is trained: a policy for that preference alone"
    )
    rl: Rl
    methods: list[Literal[*METHODS]] = Field(min_length=1, description="methods to compare (docs/rivals.md)")
    policies: dict[Name, Group] = Field(
        description="groups of policies; a group is one stage; filled in: one group for each kind of policy"
    )
    ric: Ric = Field(Ric(), validate_default=True, description="settings of the method `ric`")
    diagnosis: Diagnosis = Field(Diagnosis(), description="the forecast from the specialists")
    hardware: Hardware = Field(Hardware(), description="how policies use this machine")
    report: Report
    preferences: dict[Name, dict[str, float]] = Field(
        description="preferences with names: weights by objective, with sum 1"
    )
    register_: Register = Field(alias="register")
    estimate: Estimate | None = Field(None, description="sizes for `--estimate`; no stage reads them")

    @field_validator(*rules.RULES)
    @classmethod
    def _agrees_with_the_fields_above(cls, value: Any, info: ValidationInfo) -> Any:
        report(info, rules.RULES[info.field_name](value, info.data))
        return value

    @field_validator("rewards", mode="wrap")
    @classmethod
    def _one_per_objective(cls, value: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo) -> dict:
        # Check the names even if an entry is wrong.
        if isinstance(value, dict) and (names := info.data.get("objectives")):
            faults = [f"rewards.{name}: not among objectives {names}" for name in value if name not in names]
            report(info, faults + [f"rewards.{name}: missing" for name in names if name not in value])
        rewards = handler(value)
        note(info, [pin for name, reward in rewards.items() for pin in reward_pins(name, reward)])
        report(info, [fault for name, reward in rewards.items() for fault in reward_faults(name, reward)])
        if data := info.data.get("data"):
            report(info, source_faults(data, rewards))
        return rewards

    @property
    def beta(self) -> float:
        """Return basis.beta as a number."""
        return self.basis.resolved(len(self.objectives), self.evaluation.parts, self.evaluation.interior)

    def pins(self) -> list[Pin]:
        """Return everything on the Hugging Face Hub that the settings name."""
        rewards = [pin for name, reward in self.rewards.items() for pin in reward_pins(name, reward)]
        return [*self.data.pins(), *self.model.pins(), *rewards]

    def preference(self, name_or_weights: str) -> list[float]:
        """Read a named preference, or 'helpful=0.7,harmless=0.3', as weights in the order of `objectives`.

        Raises:
            ValueError: unknown names, or weights off the simplex.
        """
        if name_or_weights in self.preferences:
            weights = self.preferences[name_or_weights]
        else:
            weights = parse_weights(name_or_weights, sorted(self.preferences))
        if faults := preference_faults(weights, self.objectives):
            raise ValueError(f"preference {name_or_weights!r}: " + "; ".join(faults))
        return [float(weights[name]) for name in self.objectives]
