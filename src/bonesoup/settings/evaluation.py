"""Define the sections about measuring and keeping: gates, evaluation, report, registration, the estimate."""

from typing import Annotated, Literal

from pydantic import Field

from bonesoup.method.methods import MAIN, METHODS
from bonesoup.settings.section import Count, Name, Part, Positive, Section, Share


class DataGate(Section):
    max_quarantined: Share = Field(description="largest share of source rows that may be quarantined")


class RewardGate(Section):
    min_accuracy: Share = Field(description="lowest held-out accuracy of a learned reward")
    on_failure: Literal["warn", "fail"] = Field(description="what happens if a reward is below it")


class Gates(Section):
    data: DataGate
    reward: RewardGate


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
    method: Literal[*(key for key, method in METHODS.items() if method.servable)] = Field(
        MAIN, description="the soup that is registered, served and put into the report's headline; one of `methods`"
    )
    merged: list[str] = Field(description="named preferences whose merged weights are also registered")


class Machine(Section):
    name: str = Field(description="the GPU that the figures below describe")
    memory: Positive = Field(description="memory of one GPU, in GB")
    tflops: Positive = Field(description="bf16 matrix throughput of one GPU, as its maker states it, in TFLOP/s")
    float32_tflops: Positive = Field(description="the same in float32, in which reward models score")
    bandwidth: Positive = Field(description="memory bandwidth of one GPU, in GB/s")
    gpus: Count = Field(1, description="GPUs that train one policy; each holds all weights")


class Estimate(Section):
    """Sizes for `bonesoup profile --estimate`, copied from model cards and data sheets; never looked up."""

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
