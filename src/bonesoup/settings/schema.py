"""Define params.yaml as one frozen class, `Settings`, with validators for the rules that span its sections.

The field descriptions are the source of docs/settings.md.
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field, ValidationInfo, ValidatorFunctionWrapHandler, field_validator

from bonesoup.method.methods import BACKBONES, BASELINE, MAIN, METHODS, Plan, method_slots, trainings
from bonesoup.method.preferences import parse_weights, preference_faults
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
    "slots",
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
        if names := info.data.get("objectives"):
            report(info, _beta_faults("basis.beta", _beta(basis, info), len(names)) + _row_faults(basis, len(names)))
        return basis

    @field_validator("seek")
    @classmethod
    def _comparable(cls, seek: Seek, info: ValidationInfo) -> Seek:
        faults = []
        if names := info.data.get("objectives"):
            for k, beta in enumerate(seek.betas, start=1):
                faults += _beta_faults(f"seek.betas.{k}", beta, len(names))
        if seek.betas and (basis := info.data.get("basis")):
            if basis.kind != "circulant":
                faults.append(f"seek.betas: only a circulant basis has a beta to look for, basis.kind is {basis.kind}")
            kept = _beta(basis, info)
            if isinstance(kept, float) and kept not in seek.betas:
                faults.append(
                    f"seek.betas: {seek.betas} must hold basis.beta = {kept:g}, which is kept where none is "
                    f"better; {FILL}"
                )
        report(info, faults)
        return seek

    @field_validator("oracles")
    @classmethod
    def _on_the_grid(cls, rows: list[list[float]], info: ValidationInfo) -> list[list[float]]:
        if names := info.data.get("objectives"):
            evaluation = info.data.get("evaluation")
            report(info, _oracle_faults(rows, names, evaluation.parts if evaluation else None))
        return rows

    @field_validator("methods")
    @classmethod
    def _trained(cls, methods: list[str], info: ValidationInfo) -> list[str]:
        faults = [f"methods: {name} is listed twice" for name in sorted({m for m in methods if methods.count(m) > 1})]
        names, basis = info.data.get("objectives"), info.data.get("basis")
        if names and basis and basis.backbones(len(names)) != len(names):
            direct = [m for m in methods if METHODS[m].policies == BACKBONES and METHODS[m].mapping == "direct"]
            faults += [
                f"methods: {method} takes the preference for the coefficients, so it needs {len(names)} basis.rows"
                for method in direct
            ]
        if "ric" in methods and info.data.get("sft", ...) is None:
            faults.append("methods: ric trains on SFT texts, with the settings of sft, which is null")
        if (plan := _plan(info)) and (rl := info.data.get("rl")):
            for method in methods:
                try:
                    trainings([method], plan, rl.steps, rl.updates)
                except ValueError as error:
                    faults.append(f"rl.updates: {error} (method {method})")
        if _needed(methods, info) == []:
            faults.append(f"methods: {', '.join(methods)} train no policy: add {BASELINE} or {MAIN}")
        report(info, faults)
        return methods

    @field_validator("policies")
    @classmethod
    def _every_slot_once(cls, groups: dict[str, Group], info: ValidationInfo) -> dict[str, Group]:
        needed = _needed(info.data.get("methods"), info)
        if needed is None:
            return groups
        given = [slot for group in groups.values() for slot in group.slots]
        twice = sorted({slot for slot in given if given.count(slot) > 1})
        faults = [f"policies: slot {slot} is listed twice" for slot in twice]
        again = "remove `policies`, and `bonesoup profile --fill` writes it again"
        faults += [f"policies: unknown slot {slot}; {again}" for slot in given if slot not in needed]
        if missing := [slot for slot in needed if slot not in given]:
            listed = ", ".join(missing)
            faults.append(f"policies: no group trains {listed}; add {{slots: [{listed}]}}, or {again}")
        faults += _apart(info.data["methods"], groups, info)
        report(info, faults)
        return groups

    @field_validator("ric")
    @classmethod
    def _affordable(cls, ric: Ric, info: ValidationInfo) -> Ric:
        """Check that the backbones' budget, which RiC gets, reaches for its phases."""
        known = [info.data.get(key) for key in ("objectives", "basis", "rl", "methods")]
        if None not in known and any(METHODS[method].stage == "ric" for method in known[-1]):
            from bonesoup.method.targets import phases

            names, basis, rl, _ = known
            try:
                phases(rl.budget(basis.backbones(len(names))), ric.rounds, ric.online)
            except ValueError as error:
                report(info, [f"ric.rounds: {error}; take fewer, or raise rl.{'updates' if rl.updates else 'steps'}"])
        return ric

    @field_validator("hardware")
    @classmethod
    def _at_hand(cls, hardware: Hardware, info: ValidationInfo) -> Hardware:
        if hardware.vllm and (device := info.data.get("device", "cuda")) != "cuda":
            report(info, [f"hardware.vllm: vLLM generates on a GPU, and device is {device}"])
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


def _beta(basis: Basis, info: ValidationInfo) -> float | str | None:
    """Return beta as a number, the reason if `auto` has no answer, or None if other faults hide it."""
    names, evaluation = info.data.get("objectives"), info.data.get("evaluation")
    if basis.beta != "auto":
        return basis.beta
    if basis.kind != "circulant" or not names or not evaluation:
        return None
    try:
        return basis.resolved(len(names), evaluation.parts, evaluation.interior)
    except ValueError as error:
        return str(error)


def _beta_faults(key: str, beta: float | str | None, n: int) -> list[str]:
    if beta is None:
        return []
    if isinstance(beta, str):
        return [f"{key}: auto has no answer for basis.distribution: {beta}"]
    if not 1 / n < beta <= 1:
        return [f"{key}: must be in (1/{n}, 1] for {n} objectives, found {beta}"]
    from bonesoup.method.basis import circulant

    return _loud(key, circulant(n, beta))


def _row_faults(basis: Basis, n: int) -> list[str]:
    if basis.kind != "rows":
        return []
    rows = basis.rows or []
    if any(len(row) != n for row in rows):
        return [f"basis.rows: every row needs {n} weights, one per objective, found {rows}"]
    return _loud("basis.rows", rows)


def _loud(key: str, rows: ArrayLike) -> list[str]:
    """Say why rows are refused: they reach no preference, or amplify too much."""
    from bonesoup.method.basis import conditioning

    try:
        fault = conditioning(rows).fault
    except ValueError as error:
        fault = str(error)
    return [f"{key}: {fault}"] if fault else []


def _oracle_faults(rows: list[list[float]], names: list[str], parts: int | None) -> list[str]:
    faults = []
    for k, row in enumerate(rows, start=1):
        if row in rows[: k - 1]:
            faults.append(f"oracles.{k}: {row} repeats oracles.{rows.index(row) + 1}")
        if len(row) != len(names):
            faults.append(f"oracles.{k}: has {len(row)} weights for {len(names)} objectives")
            continue
        faults += [f"oracles.{k}: {fault}" for fault in preference_faults(dict(zip(names, row, strict=True)), names)]
        if parts and any(abs(weight * parts - round(weight * parts)) > 1e-6 for weight in row):
            faults.append(f"oracles.{k}: {row} is not on the evaluation grid of {parts} parts")
    return faults


def _needed(methods: list[str] | None, info: ValidationInfo) -> list[str] | None:
    """List the slots that the methods need; None if other faults hide them."""
    plan = _plan(info)
    return None if plan is None or methods is None else _slots(methods, plan)


def _apart(methods: list[str], groups: dict[str, Group], info: ValidationInfo) -> list[str]:
    """Name the policies that start from policies of a different group, which a stage does not know."""
    where = {slot: name for name, group in groups.items() for slot in group.slots}
    return [
        f"policies: {slot} starts from {', '.join(training.start)}, so that it belongs to their group"
        for slot, training in trainings(methods, _plan(info), 1).items()
        if training.start and {where.get(slot)} != {where.get(start) for start in training.start}
    ]


def _plan(info: ValidationInfo) -> Plan | None:
    """Count the rows that the settings ask for; None if other faults hide them."""
    names, basis, oracles = (info.data.get(key) for key in ("objectives", "basis", "oracles"))
    return None if None in (names, basis, oracles) else _counts(len(names), basis, oracles)


def _counts(n: int, basis: Basis, oracles: list[list[float]]) -> Plan:
    """Return a plan of which only the numbers of rows mean something."""
    return Plan(np.zeros((basis.backbones(n), n)), np.zeros((len(oracles), n)))


def slots(methods: list[str], n: int, basis: Basis, oracles: list[list[float]]) -> list[str]:
    """List the slots that the methods are made of, for n objectives."""
    return _slots(methods, _counts(n, basis, oracles))


def _slots(methods: list[str], plan: Plan) -> list[str]:
    return list(dict.fromkeys(slot for method in methods if method in METHODS for slot in method_slots(method, plan)))
