"""params.yaml as frozen, validated settings.

`load` reads the file, checks every key and every rule that spans keys, and reports all faults in one
ValueError. The field descriptions are the source of docs/settings.md.
"""

import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

SCHEMA = 1
PARAMS = Path("params.yaml")

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(gt=0)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$")]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Sizes(Section):
    """How much the embedded generator makes; file sources bring their own rows."""

    sft: Count = Field(description="SFT texts, prompts drawn with replacement")
    pairs: Count = Field(description="preference pairs per objective")
    prompts: Count = Field(description="RL, normalisation and evaluation prompts")


class Data(Section):
    source: Literal["embedded", "hh-rlhf", "qa-feedback"] = Field(
        description="format of the source: the embedded generator, hh-rlhf pairs, or QA-Feedback"
    )
    path: str = Field(
        description="the file the source is read from (JSON lines, gzip or not); the embedded "
        "generator reads its word tables from it; for a Hub dataset, the profile that pins it"
    )
    hub: str | None = Field(None, description="Hugging Face dataset id to read instead of `path`")
    revision: str | None = Field(None, description="commit of the Hub dataset; required with `hub`")
    hub_split: str = Field("train", description="split of the Hub dataset")
    sizes: Sizes | None = Field(None, description="row counts; embedded source only")
    validation: Share = Field(description="share of prompts held out for choosing settings")
    test: Share = Field(description="share of prompts held out for the report")
    max_prompt_chars: Count = Field(description="a longer prompt is cut at the front (counted, not dropped)")
    max_response_chars: Count = Field(description="a longer response goes to quarantine")


class Model(Section):
    source: str = Field(description="`scratch`, or a Hugging Face id or folder of a causal language model")
    revision: str | None = Field(None, description="commit of a Hub model; required for a Hub id")
    tokenizer: Literal["words", "bpe"] = Field("words", description="scratch only: one token a word, or BPE")
    vocabulary: Count = Field(4096, description="scratch only: size of the BPE vocabulary")
    hidden: Count = Field(64, description="scratch only: width")
    layers: Count = Field(2, description="scratch only: decoder layers")
    heads: Count = Field(4, description="scratch only: attention heads")
    context: Count = Field(128, description="longest prompt plus response, in tokens")
    dtype: Literal["float32", "bfloat16"] = Field("float32", description="of the base weights in training")


class Lora(Section):
    rank: Count = Field(description="rank r of every adapted matrix")
    alpha: Positive = Field(description="adapter scale is alpha / rank")
    dropout: Share = Field(0.0, description="dropout on the adapter input")
    targets: str | list[str] = Field("all-linear", description="module names, or all-linear")


class Fit(Section):
    steps: Count = Field(description="optimiser steps")
    batch: Count = Field(description="rows per step")
    learning_rate: Positive = Field(description="peak; cosine decay after 5% warm-up")


class Sft(Fit):
    lora: Lora | None = Field(None, description="null trains every weight")


class PairReward(Fit):
    """Bradley-Terry reward model trained by TRL on preference pairs."""

    kind: Literal["pairs"]
    source: str = Field(description="file of pairs made by prepare: out/data/rewards/<objective>.jsonl")


class LabelReward(Fit):
    """Regression or binary classification on labelled responses."""

    kind: Literal["labels"]
    source: str = Field(description="file of labelled responses: out/data/rewards/<objective>.jsonl")
    loss: Literal["regression", "classification"] = Field(
        description="squared error on the label, or cross-entropy where labels are 0 and 1"
    )


class PretrainedReward(Section):
    """A reward model that exists already."""

    kind: Literal["pretrained"]
    model: str = Field(description="Hugging Face id or folder of a sequence classifier")
    revision: str | None = Field(None, description="commit of a Hub model; required for a Hub id")
    input: Literal["chat", "response", "hh", "unknown"] = Field(
        description="what it reads: its tokenizer's chat template, the response alone, or an "
        "hh-rlhf dialogue ('\\n\\nHuman: ...\\n\\nAssistant: ...'); unknown refuses to run"
    )
    logit: int | Literal["unknown"] = Field(description="index of the logit that is the reward")
    source: str = Field(description="labelled rows or pairs its held-out accuracy is measured on")


class FunctionReward(Section):
    """A reward computed by a plain function of (prompts, responses)."""

    kind: Literal["function"]
    function: str = Field(pattern=r"^[\w.]+:\w+$", description="package.module:name")
    source: str = Field(description="the file that defines it, a dependency of the stage")


Reward = Annotated[PairReward | LabelReward | PretrainedReward | FunctionReward, Field(discriminator="kind")]


class Generation(Section):
    temperature: Positive = Field(description="of sampling, in training and evaluation alike")
    max_new_tokens: Count = Field(description="longest response, in tokens")


class Normalise(Section):
    samples: Count = Field(description="responses sampled from the SFT policy on training prompts")


class Basis(Section):
    beta: float = Field(description="diagonal of the circulant basis, in (1/n, 1]; 1 is Rewarded Soup")


class Limits(Section):
    kl: Positive = Field(description="stop when KL(policy || SFT) exceeds this, in nats per response")
    entropy: float = Field(ge=0, description="stop when the mean token entropy falls below this, in nats")


class Rl(Section):
    steps: Count = Field(description="optimiser steps, one batch of rollouts each")
    prompts: Count = Field(description="prompts per step")
    generations: Annotated[int, Field(ge=2)] = Field(description="responses per prompt (the leave-one-out group)")
    micro_batch: Count = Field(description="rows per backward pass; divides prompts * generations")
    learning_rate: Positive = Field(description="peak; linear decay to zero")
    warmup_steps: int = Field(ge=0, description="steps of linear warm-up")
    max_grad_norm: Positive = Field(description="gradient clipping")
    kl: float = Field(ge=0, description="coefficient of the KL penalty to the SFT policy, in the reward")
    checkpoint_every: Count = Field(description="steps between resumable checkpoints")
    lora: Lora = Field(description="adapter of every policy")
    limits: Limits = Field(description="when a run counts as collapsed")


class Group(Section):
    slots: list[str] = Field(
        min_length=1,
        description="policies trained in one process: backbone-K, specialist-K, oracle-K, K from 1",
    )


class Evaluation(Section):
    parts: Count = Field(description="the preference grid is the integer lattice with this many parts")
    samples: Count = Field(description="test prompts per grid point")
    batch: Count = Field(description="rows per generation batch")
    references: list[float] = Field(
        min_length=2,
        description="hypervolume reference points, one value for every objective, in SFT standard deviations",
    )
    interior: Share = Field(description="a preference is interior when no weight is below this")
    bootstrap: Count = Field(description="resamples of prompts for the intervals")
    confidence: Annotated[float, Field(gt=0, lt=1)] = Field(description="level of the intervals")


class Report(Section):
    prompts: Count = Field(description="test prompts whose responses are shown along the preference slider")


class Register(Section):
    name: Name = Field(description="prefix of the registered model names")
    merged: list[str] = Field(description="named preferences whose merged weights are registered too")


class DataGate(Section):
    max_quarantined: Share = Field(description="largest share of source rows that may be quarantined")


class RewardGate(Section):
    min_accuracy: Share = Field(description="lowest held-out accuracy of a learned reward")
    on_failure: Literal["warn", "fail"] = Field(description="what a reward below it does")


class Gates(Section):
    data: DataGate
    reward: RewardGate


class Settings(Section):
    """Everything a run depends on. One file, params.yaml, holds it."""

    schema_: int = Field(alias="schema", description="version of this file's layout")
    seed: int = Field(ge=0, description="of data, initialisation, rollouts and evaluation sampling")
    threads: Count = Field(description="CPU threads per stage; changes float rounding, so it is a parameter")
    device: Literal["cpu", "cuda"] = Field(description="where models train and generate")
    objectives: list[Name] = Field(min_length=2, description="names, in the order of every vector")
    data: Data
    gates: Gates
    model: Model
    sft: Sft
    rewards: dict[Name, Reward] = Field(description="one per objective")
    generation: Generation
    normalise: Normalise
    basis: Basis
    oracles: list[list[float]] = Field(description="preferences that get a policy of their own")
    rl: Rl
    policies: dict[Name, Group] = Field(description="groups of slots; a group is one stage")
    methods: list[Literal["sft", "rewarded", "bone", "oracle"]] = Field(min_length=1, description="what is evaluated")
    evaluation: Evaluation
    report: Report
    preferences: dict[Name, dict[str, float]] = Field(description="named preferences")
    register_: Register = Field(alias="register")

    def preference(self, name_or_weights: str) -> list[float]:
        """A named preference, or 'helpful=0.7,harmless=0.3', as weights in the order of `objectives`.

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


def parse_weights(text: str, known: list[str]) -> dict[str, float]:
    """'a=0.7,b=0.3' -> {'a': 0.7, 'b': 0.3}."""
    try:
        pairs = [part.split("=") for part in text.split(",")]
        weights = {name.strip(): float(value) for name, value in pairs}
    except ValueError:
        raise ValueError(
            f"preference {text!r} is neither a named preference ({', '.join(known) or 'none defined'}) "
            "nor of the form helpful=0.7,harmless=0.3"
        ) from None
    if len(weights) < len(pairs):
        raise ValueError(f"preference {text!r} names an objective twice")
    return weights


def preference_faults(weights: dict[str, float], objectives: list[str]) -> list[str]:
    """Why `weights` is no preference over `objectives`; empty when it is one."""
    faults = []
    if unknown := sorted(set(weights) - set(objectives)):
        faults.append(f"unknown objectives {', '.join(unknown)} (known: {', '.join(objectives)})")
    if missing := [name for name in objectives if name not in weights]:
        faults.append(f"no weight for {', '.join(missing)}")
    values = list(weights.values())
    if any(not math.isfinite(value) or value < 0 for value in values):
        faults.append("weights must be finite and not negative")
    elif abs(sum(values) - 1) > 1e-6:
        faults.append(f"weights sum to {sum(values):g}, not 1")
    return faults


def load(path: Path = PARAMS) -> Settings:
    """Read and check a params file.

    Raises:
        ValueError: the file is missing or not YAML, or any setting is wrong; lists every fault.
    """
    if not path.is_file():
        raise ValueError(
            f"{path.absolute()} does not exist: run from the project's root, or write it with `bonesoup profile`"
        )
    return check(parse_yaml(path.read_bytes(), str(path)), str(path))


def parse_yaml(content: bytes, name: str) -> Any:
    """Plain data of a YAML file; `name` stands for it in the message.

    Raises:
        ValueError: it is not YAML, or not UTF-8.
    """
    try:
        return YAML(typ="safe").load(content.decode())
    except (YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{name} is not valid YAML in UTF-8: {error}") from None


def check(raw: Any, path: str = "params") -> Settings:
    """Validate plain data as settings; `path` names it in the message."""
    if not isinstance(raw, dict):
        raise ValueError(f"{path} must be a mapping of settings, found {type(raw).__name__}")
    if raw.get("schema") != SCHEMA:
        raise ValueError(
            f"{path} has schema {raw.get('schema')!r}, this version reads {SCHEMA}: write a fresh one with "
            "`bonesoup profile NAME` and carry your changes over"
        )
    faults = []
    settings = None
    try:
        settings = Settings.model_validate(raw)
    except ValidationError as error:
        faults += [_message(item) for item in error.errors()]
    faults += _rules(raw)
    if faults:
        listing = "\n".join(f"  - {fault}" for fault in faults)
        raise ValueError(f"{path} has {len(faults)} fault{'s' * (len(faults) > 1)}:\n{listing}")
    return settings


def _message(item: dict) -> str:
    where = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        return f"{where}: unknown key"
    if item["type"] == "missing":
        return f"{where}: missing"
    return f"{where}: {item['msg']}, found {item['input']!r}"


def _parsed(kind: Any, value: Any) -> Any:
    """`value` as `kind`, or None where its own section already reports it."""
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError:
        return None


def _rules(raw: dict) -> list[str]:
    """Faults that span keys. Works on raw data, so that they are reported beside the faults of fields."""
    names = _parsed(list[Name], raw.get("objectives"))
    if not names or len(names) < 2:
        return []
    faults = []
    n = len(names)
    if len(set(names)) < n:
        faults.append(f"objectives: {names} repeats a name")
    faults += _reward_rules(raw, names)
    if (basis := _parsed(Basis, raw.get("basis"))) and not 1 / n < basis.beta <= 1:
        faults.append(f"basis.beta: must be in (1/{n}, 1] for {n} objectives, found {basis.beta}")
    faults += _preference_rules(raw, names)
    faults += _slot_rules(raw, n)
    if data := _parsed(Data, raw.get("data")):
        if data.validation + data.test >= 1:
            faults.append("data: validation and test leave nothing to train on")
        if data.hub and not data.revision:
            faults.append(f"data.revision: {data.hub} needs the commit to use")
        if data.source == "embedded" and not data.sizes:
            faults.append("data.sizes: the embedded source needs it")
    model = _parsed(Model, raw.get("model"))
    if model and model.source != "scratch" and (fault := _unpinned(model.source, model.revision)):
        faults.append(f"model.revision: {fault}")
    if (model := _parsed(Model, raw.get("model"))) and model.source != "scratch":
        faults += _pin_faults("model", model.source, model.revision)
    if (rl := _parsed(Rl, raw.get("rl"))) and rl.prompts * rl.generations % rl.micro_batch:
        faults.append(
            f"rl.micro_batch: {rl.micro_batch} does not divide prompts * generations = {rl.prompts * rl.generations}"
        )
    return faults


def _unpinned(source: str, revision: str | None) -> str | None:
    """Why a model is no fixed thing: a Hub id without a commit changes under one's feet."""
    if revision or Path(source).is_dir():
        return None
    return f"{source} is no folder here; as a Hugging Face id it needs the commit to use"


def _pin_faults(key: str, source: str, revision: str | None) -> list[str]:
    if revision or Path(source).is_dir():
        return []
    return [f"{key}.revision: {source} is no folder here, and a Hub id needs the commit to use"]


def _reward_rules(raw: dict, names: list[str]) -> list[str]:
    rewards = raw.get("rewards")
    if not isinstance(rewards, dict):
        return []
    faults = [f"rewards.{name}: not among objectives {names}" for name in rewards if name not in names]
    faults += [f"rewards.{name}: missing" for name in names if name not in rewards]
    for name, value in rewards.items():
        reward = _parsed(Reward, value)
        if isinstance(reward, PairReward | LabelReward) and reward.source != f"out/data/rewards/{name}.jsonl":
            faults.append(f"rewards.{name}.source: must be out/data/rewards/{name}.jsonl, found {reward.source}")
        if isinstance(reward, PretrainedReward) and (fault := _unpinned(reward.model, reward.revision)):
            faults.append(f"rewards.{name}.revision: {fault}")
        if isinstance(reward, PretrainedReward):
            faults += _pin_faults(f"rewards.{name}", reward.model, reward.revision)
        if isinstance(reward, PretrainedReward) and "unknown" in (reward.input, reward.logit):
            faults.append(
                f"rewards.{name}: input and logit of {reward.model} are unknown: look them up in its "
                "model card and fill them in"
            )
    return faults


def _preference_rules(raw: dict, names: list[str]) -> list[str]:
    faults = []
    named = _parsed(dict[str, dict[str, float]], raw.get("preferences")) or {}
    for key, weights in named.items():
        faults += [f"preferences.{key}: {fault}" for fault in preference_faults(weights, names)]
    if register := _parsed(Register, raw.get("register")):
        faults += [f"register.merged: {key!r} is no named preference" for key in register.merged if key not in named]
    parts = (_parsed(Evaluation, raw.get("evaluation")) or Evaluation.model_construct(parts=None)).parts
    for k, row in enumerate(_parsed(list[list[float]], raw.get("oracles")) or [], start=1):
        if len(row) != len(names):
            faults.append(f"oracles.{k}: has {len(row)} weights for {len(names)} objectives")
            continue
        faults += [f"oracles.{k}: {fault}" for fault in preference_faults(dict(zip(names, row, strict=True)), names)]
        if parts and any(abs(weight * parts - round(weight * parts)) > 1e-6 for weight in row):
            faults.append(f"oracles.{k}: {row} is not on the evaluation grid of {parts} parts")
    return faults


def _slot_rules(raw: dict, n: int) -> list[str]:
    groups = _parsed(dict[str, Group], raw.get("policies"))
    methods = _parsed(list[str], raw.get("methods"))
    oracles = _parsed(list[list[float]], raw.get("oracles"))
    if groups is None or methods is None or oracles is None:
        return []
    given = [slot for group in groups.values() for slot in group.slots]
    needed = [slot for method in methods for slot in method_slots(method, n, len(oracles))]
    faults = [f"policies: slot {slot} is listed twice" for slot in sorted({s for s in given if given.count(s) > 1})]
    faults += [f"policies: unknown slot {slot}" for slot in given if slot not in needed]
    if missing := [slot for slot in needed if slot not in given]:
        faults.append(f"policies: no group trains {', '.join(missing)}; add {{slots: [{', '.join(missing)}]}}")
    return faults


def method_slots(method: str, n: int, oracles: int) -> list[str]:
    """The policies a method is made of, for n objectives."""
    kind, count = {
        "sft": ("", 0),
        "rewarded": ("specialist", n),
        "bone": ("backbone", n),
        "oracle": ("oracle", oracles),
    }.get(method, ("", 0))
    return [f"{kind}-{k}" for k in range(1, count + 1)]
