"""Define the sections about measuring and keeping: gates, evaluation, report, registration, the estimate."""

from typing import Annotated, Literal

from pydantic import Field

from bonesoup.method.methods import AUTO, MAIN, METHODS
from bonesoup.settings.section import Count, Name, Part, Positive, Section, Share


class DataGate(Section):
    """A threshold on the prepared data."""

    max_quarantined: Share = Field(description="largest share of source rows that may go to quarantine")


class RewardGate(Section):
    """A threshold on the learned rewards."""

    min_accuracy: Share = Field(description="lowest held-out accuracy of a learned reward")
    on_failure: Literal["warn", "fail"] = Field(description="what to do about a reward below it")


class Gates(Section):
    """Thresholds that stop a run, or warn."""

    data: DataGate
    reward: RewardGate


class Evaluation(Section):
    """How methods are compared."""

    parts: Count = Field(description="the preference grid: all preferences whose weights are multiples of 1/parts")
    samples: Count = Field(description="test prompts per preference")
    batch: Count = Field(description="responses generated at once")
    references: list[float] = Field(
        min_length=2,
        description="hypervolume reference points: the same value for every objective, in SFT standard deviations",
    )
    interior: Share = Field(description="a preference is interior if every weight is at least this")
    bootstrap: Count = Field(description="resamples of the prompts, for intervals")
    confidence: Part = Field(description="confidence level of the intervals")


class Report(Section):
    """The HTML report."""

    prompts: Count = Field(description="test prompts whose responses the report shows along the preferences")


class Register(Section):
    """The models that a run registers in MLflow."""

    name: Name = Field(description="name of the experiment, and prefix of the model names")
    method: Literal[AUTO, *(key for key, method in METHODS.items() if method.servable)] = Field(
        MAIN,
        description="the method whose soup is registered, served and named in the report's headline: one of `methods`, "
        "or `auto`: the best on validation prompts, by an interval",
    )
    samples: Count = Field(256, description="validation prompts per preference by which `auto` chooses")
    merged: list[str] = Field(description="named preferences for which merged weights are registered too")


class Machine(Section):
    """The GPU that the estimate is for."""

    name: str = Field(description="name of the GPU, for the printout")
    memory: Positive = Field(description="memory of one GPU, in GB")
    tflops: Positive = Field(description="bf16 matrix throughput of one GPU according to its data sheet, in TFLOP/s")
    float32_tflops: Positive = Field(description="its float32 throughput, at which reward models score, in TFLOP/s")
    bandwidth: Positive = Field(description="memory bandwidth of one GPU, in GB/s")
    gpus: Count = Field(1, description="GPUs that train one policy; each holds all weights")


class Estimate(Section):
    """Sizes for `bonesoup profile --estimate`, copied from model cards and data sheets. No stage reads them."""

    parameters: Count = Field(description="parameters of the base model")
    layers: Count = Field(description="layers of the base model")
    hidden: Count = Field(description="width of the base model")
    kv_width: Count = Field(description="width of a layer's keys: key heads times head width")
    vocabulary: Count = Field(description="tokens in the base model's vocabulary")
    matrices: dict[str, Annotated[list[Count], Field(min_length=2, max_length=2)]] = Field(
        description="[inputs, outputs] of each linear module of a layer"
    )
    rewards: dict[Name, Count] = Field(description="parameters of each reward model")
    prompt_tokens: Count = Field(description="tokens of a typical prompt")
    machine: Machine
