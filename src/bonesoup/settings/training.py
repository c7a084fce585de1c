"""Define the sections about training: SFT, the common scale, the basis, policies, and the machine they train on."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationInfo, model_validator
from pydantic.functional_validators import BeforeValidator
from pydantic_core import PydanticCustomError

from bonesoup.method.beta import beta_for
from bonesoup.settings.section import FILL, Count, Part, Positive, Section, Share, report


class Lora(Section):
    """A LoRA adapter."""

    rank: Count = Field(description="rank of the adapter at every adapted matrix")
    alpha: Positive = Field(description="the adapter is scaled by alpha / rank")
    dropout: Share = Field(
        0.0, description="dropout on the adapter's input; 0 in `rl.lora`, because RLOO switches it off"
    )
    targets: str | list[str] = Field("all-linear", description="modules to adapt, by name, or `all-linear`")


class Fit(Section):
    steps: Count = Field(description="optimiser steps")
    batch: Count = Field(description="rows per step")
    learning_rate: Positive = Field(description="peak learning rate, after 5% warm-up and before cosine decay")


class Sft(Fit):
    """Supervised fine-tuning of the base, before reinforcement learning."""

    lora: Lora | None = Field(None, description="adapter to train; null trains every weight")


class Generation(Section):
    """How responses are sampled."""

    temperature: Positive = Field(description="sampling temperature, in training and evaluation alike")
    max_new_tokens: Count = Field(description="longest response, in tokens")


class Normalise(Section):
    """The common scale of the rewards: the mean and standard deviation of each on the SFT policy's responses."""

    samples: Count = Field(description="responses sampled from the SFT policy, on training prompts")


class Dirichlet(Section):
    """A symmetric Dirichlet distribution of preferences."""

    dirichlet: Positive = Field(
        description="concentration of a symmetric Dirichlet distribution: 1 is uniform, more is nearer to the middle"
    )


class Asked(Section):
    """A preference, and how often it is asked for."""

    preference: list[float] = Field(description="a preference: one weight per objective")
    share: Positive = Field(1.0, description="how often it is asked for, relative to the others")


Distribution = Literal["interior", "uniform"] | Dirichlet | Annotated[list[Asked], Field(min_length=1)]


def asked(distribution: Distribution) -> str | float | list[tuple[list[float], float]]:
    """Return a distribution of preferences in the form `beta_for` takes."""
    if isinstance(distribution, list):
        return [(item.preference, item.share) for item in distribution]
    return distribution.dirichlet if isinstance(distribution, Dirichlet) else distribution


class Basis(Section):
    """The reward mixes that the backbones are trained on."""

    kind: Literal["circulant", "identity", "rows"] = Field(
        "circulant",
        description="`circulant` (made from `beta`), `identity` (one reward each, as in Rewarded Soup), or `rows`",
    )
    beta: float | Literal["auto"] = Field(
        description="share of its main objective in each backbone's circulant mix, in (1/n, 1] for n objectives; the "
        "others share the rest; 1 is Rewarded Soup; `auto` calculates it for `distribution` (docs/method.md)"
    )
    rows: list[list[float]] | None = Field(
        None, description="for `kind: rows`: the reward weights of each backbone; at least as many rows as objectives"
    )
    distribution: Distribution = Field(
        "interior",
        description="the preferences that people ask for, used by `beta: auto`: the `interior` of the "
        "evaluation grid, `uniform` over all, a Dirichlet distribution, or a list such as `[{preference: [0.8, 0.2], "
        "share: 2.0}, {preference: [0.5, 0.5]}]`",
    )

    @model_validator(mode="after")
    def _rows_of_their_kind(self, info: ValidationInfo) -> Self:
        if self.kind != "rows" and self.rows:
            report(info, [f"basis.rows: only kind rows takes rows, basis.kind is {self.kind}; set it to null"])
        if self.kind != "circulant" and self.beta == "auto":
            report(info, [f"basis.beta: auto is for a circulant basis, basis.kind is {self.kind}; write a number"])
        return self

    def resolved(self, n: int, parts: int, interior: float) -> float:
        """Return beta as a number.

        Args:
            n: number of objectives.
            parts, interior: from `evaluation`.

        Raises:
            ValueError: beta is `auto`, and the distribution is invalid or needs a single policy only.
        """
        return beta_for(n, asked(self.distribution), parts, interior) if self.beta == "auto" else self.beta

    def backbones(self, n: int) -> int:
        """Return the number of backbones for n objectives."""
        return len(self.rows) if self.kind == "rows" and self.rows else n


def _named_by_value(beta: Any) -> Any:
    """Refuse a beta that is written as a whole number: DVC names its stage `probe@1`, the plan holds 1.0."""
    if isinstance(beta, int) and not isinstance(beta, bool):
        raise PydanticCustomError("whole_number", "write {beta}.0: the value names a stage", {"beta": beta})
    return beta


class Seek(Section):
    """A search for `basis.beta` in short runs, before the full one."""

    betas: list[Annotated[float, BeforeValidator(_named_by_value)]] = Field(
        [],
        description="values of beta to compare; `basis.beta` is filled in among them; empty skips the search",
    )
    share: Part = Field(0.2, description="share of the full run's steps to train for each value")
    samples: Count = Field(256, description="validation prompts per preference of the grid")

    @model_validator(mode="after")
    def _different(self, info: ValidationInfo) -> Self:
        if len(set(self.betas)) < len(self.betas):
            report(info, [f"seek.betas: {self.betas} repeats a value"])
        return self


class Extrapolation(Section):
    """Scaling of every method's change to the SFT weights, beyond the trained policies."""

    scales: list[Positive] = Field(
        [1.0],
        description="factors to try; 1, no scaling, is filled in among them",
    )
    per_objective: bool = Field(
        False, description="choose a factor for each objective, at its own vertex, instead of one for all preferences"
    )
    samples: Count = Field(256, description="validation prompts per preference")
    kl: Positive = Field(10.0, description="reject a factor whose mean KL exceeds this, in nats per response")

    @model_validator(mode="after")
    def _none_among_them(self, info: ValidationInfo) -> Self:
        if 1 not in self.scales:
            report(info, [f"extrapolation.scales: {self.scales} must hold 1, no scaling; {FILL}"])
        return self


class Diagnosis(Section):
    """A forecast, from the specialists alone, of whether backbones pay off."""

    samples: int = Field(
        0,
        ge=0,
        description="validation prompts of the stage `diagnose`; 0 skips it",
    )

    @model_validator(mode="after")
    def _enough(self, info: ValidationInfo) -> Self:
        if self.samples == 1:
            report(info, ["diagnosis.samples: a single prompt shows no spread: take 2 or more, or 0"])
        return self


class Limits(Section):
    """When a policy counts as collapsed and stops."""

    kl: Positive = Field(description="stop if KL(policy || SFT) exceeds this, in nats per response")
    entropy: float = Field(ge=0, description="stop if the mean token entropy falls below this, in nats")


class Rl(Section):
    """Reinforcement learning of the policies, by RLOO."""

    steps: Count = Field(description="optimiser steps of each policy, each on a batch of fresh rollouts")
    updates: Count | None = Field(
        None,
        description="optimiser steps that the policies of a method share, so that a method with more policies costs no "
        "more; oracles keep `steps`; null gives `steps` to every policy",
    )
    prompts: Count = Field(description="prompts per step")
    generations: Annotated[int, Field(ge=2)] = Field(description="responses per prompt (the leave-one-out group)")
    micro_batch: Count = Field(
        description="responses per backward pass, in whole prompts; a divisor of prompts * generations"
    )
    learning_rate: Positive = Field(description="peak learning rate, before linear decay to zero")
    warmup_steps: int = Field(ge=0, description="steps of linear warm-up")
    max_grad_norm: Positive = Field(description="norm to which gradients are clipped")
    kl: float = Field(ge=0, description="coefficient of the KL penalty to the SFT policy, in the reward")
    checkpoint_every: Count = Field(description="steps between resumable checkpoints")
    lora: Lora = Field(description="adapter of every policy")
    limits: Limits = Field(description="when a policy counts as collapsed")

    def lasting(self, steps: int) -> "Rl":
        """Return the same schedule with another number of steps."""
        warmup = round(self.warmup_steps * steps / self.steps)
        return self.model_copy(update={"steps": steps, "warmup_steps": warmup, "updates": None})

    def budget(self, policies: int) -> int:
        """Return the updates of a method of so many policies."""
        return self.updates or policies * self.steps

    @model_validator(mode="after")
    def _possible(self, info: ValidationInfo) -> Self:
        rows, faults = self.prompts * self.generations, []
        if rows % self.micro_batch:
            faults.append(f"rl.micro_batch: {self.micro_batch} does not divide prompts * generations = {rows}")
        if self.lora.dropout:
            faults.append(f"rl.lora.dropout: must be 0, as RLOO switches dropout off; found {self.lora.dropout}")
        report(info, faults)
        return self


class Ric(Section):
    """Rewards-in-Context, used only if `ric` is among the methods."""

    rounds: int = Field(1, ge=0, description="online rounds, after the offline phase")
    online: Part = Field(
        0.33, description="share of the updates, and of the scored responses, that the online rounds take together"
    )
    learning_rate: Positive = Field(
        0.003, description="peak learning rate of every phase, after 5% warm-up and before cosine decay"
    )
    keep: Share = Field(
        0.7, description="online rounds learn from responses that reach this quantile of at least one objective"
    )


class Group(Section):
    """A group of policies, trained in one process by one stage."""

    slots: list[str] = Field(
        min_length=1,
        description="policies to train, such as backbone-K, specialist-K or oracle-K with K from 1; filled in for a "
        "group named after a slot, after a kind in the plural (`backbones`), or `all`",
    )


class Hardware(Section):
    """How policies use this machine."""

    gradient_checkpointing: bool = Field(
        False, description="recompute activations in the backward pass: less memory, a third more arithmetic"
    )
    vllm: bool = Field(False, description="generate rollouts with vLLM in the training process; needs a GPU and vLLM")
    accelerate: str | None = Field(
        None,
        description="configuration file of accelerate, such as accelerate/fsdp.yaml, to train a policy in several "
        "processes; null is one process",
    )
