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
    prepared,
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
    "Basis",
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
    "prepared",
]


class Settings(Section):
    """Everything a run depends on. One file, params.yaml, holds it.

    A validator sees the valid ones among the fields above its own in `info.data`.
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

    @field_validator("objectives")
    @classmethod
    def _unlike(cls, names: list[str], info: ValidationInfo) -> list[str]:
        if len(set(names)) < len(names):
            report(info, [f"objectives: {names} repeats a name"])
        return names

    @field_validator("sft")
    @classmethod
    def _has_texts(cls, sft: Sft | None, info: ValidationInfo) -> Sft | None:
        model, data = info.data.get("model"), info.data.get("data")
        if sft is None and model and model.source == "scratch":
            report(info, ["sft: null, but a model from scratch has to be trained"])
        if sft and data and data.source == "prompts":
            report(info, ["sft: the prompts source has no SFT texts; set it to null"])
        return sft

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

    @field_validator("basis")
    @classmethod
    def _reaches_every_preference(cls, basis: Basis, info: ValidationInfo) -> Basis:
        report(info, rules.basis_faults(basis, info.data))
        return basis

    @field_validator("seek")
    @classmethod
    def _comparable(cls, seek: Seek, info: ValidationInfo) -> Seek:
        report(info, rules.seek_faults(seek, info.data))
        return seek

    @field_validator("oracles")
    @classmethod
    def _on_the_grid(cls, rows: list[list[float]], info: ValidationInfo) -> list[list[float]]:
        report(info, rules.oracle_faults(rows, info.data))
        return rows

    @field_validator("methods")
    @classmethod
    def _trained(cls, methods: list[str], info: ValidationInfo) -> list[str]:
        report(info, rules.method_faults(methods, info.data))
        return methods

    @field_validator("policies")
    @classmethod
    def _every_slot_once(cls, groups: dict[str, Group], info: ValidationInfo) -> dict[str, Group]:
        report(info, rules.group_faults(groups, info.data))
        return groups

    @field_validator("ric")
    @classmethod
    def _affordable(cls, ric: Ric, info: ValidationInfo) -> Ric:
        report(info, rules.ric_faults(ric, info.data))
        return ric

    @field_validator("hardware")
    @classmethod
    def _at_hand(cls, hardware: Hardware, info: ValidationInfo) -> Hardware:
        report(info, rules.hardware_faults(hardware, info.data))
        return hardware

    @field_validator("preferences")
    @classmethod
    def _on_the_simplex(cls, named: dict[str, dict[str, float]], info: ValidationInfo) -> dict[str, dict[str, float]]:
        names = info.data.get("objectives")
        for key, weights in named.items() if names else ():
            report(info, [f"preferences.{key}: {fault}" for fault in preference_faults(weights, names)])
        return named

    @field_validator("register_")
    @classmethod
    def _of_what_is_made(cls, register: Register, info: ValidationInfo) -> Register:
        if (named := info.data.get("preferences")) is not None:
            unknown = [key for key in register.merged if key not in named]
            report(info, [f"register.merged: {key!r} is no named preference" for key in unknown])
        methods = info.data.get("methods")
        if methods is not None and register.method not in methods:
            served = ", ".join(method for method in methods if METHODS[method].servable)
            report(info, [f"register.method: {register.method} is not among methods: add it, or register {served}"])
        return register

    @field_validator("estimate")
    @classmethod
    def _of_every_reward(cls, estimate: Estimate | None, info: ValidationInfo) -> Estimate | None:
        if estimate and (names := info.data.get("objectives")) and set(estimate.rewards) != set(names):
            report(
                info,
                [f"estimate.rewards: has sizes for {', '.join(estimate.rewards)}, objectives are {', '.join(names)}"],
            )
        return estimate

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
