"""The settings: every key of params.yaml as a frozen class. params.py reads the file and holds the rules across keys.

The field descriptions are the source of docs/settings.md.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from bonesoup.method.preferences import parse_weights, preference_faults

Share = Annotated[float, Field(ge=0, le=1)]
Part = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(gt=0)]
RewardInput = Literal["chat", "response", "hh", "prompt-response", "response-prompt", "response-bos-prompt", "unknown"]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$")]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Sizes(Section):
    """How much the embedded generator makes; file sources bring their own rows."""

    sft: Count = Field(description="SFT texts, prompts drawn with replacement")
    pairs: Count = Field(description="preference pairs per objective")
    prompts: Count = Field(description="RL, normalisation and evaluation prompts")


class Data(Section):
    source: Literal["embedded", "hh-rlhf", "qa-feedback", "summarize-from-feedback"] = Field(
        description="format of the source: the embedded generator, hh-rlhf pairs, QA-Feedback, or the comparisons of "
        "summarize_from_feedback"
    )
    path: str = Field(
        description="the file the source is read from (JSON lines, gzip or not); the embedded "
        "generator reads its word tables from it; for a Hub dataset, the profile that pins it"
    )
    hub: str | None = Field(None, description="Hugging Face dataset id to read instead of `path`")
    revision: str | None = Field(None, description="commit of the Hub dataset; required with `hub`")
    hub_split: str = Field("train", description="split of the Hub dataset")
    hub_folder: str | None = Field(None, description="folder of the Hub dataset that is read; null reads all of it")
    hub_branch: str = Field("main", description="branch that `--pin` and watch-data take the newest commit of")
    labels: list[Name] = Field(
        description="objectives that `prepare` writes a table of pairs or labels for; the source must have them"
    )
    sizes: Sizes | None = Field(None, description="row counts; embedded source only")
    validation: Part = Field(description="share of prompts held out for choosing settings")
    test: Part = Field(description="share of prompts held out for the report")
    max_prompt_chars: Count = Field(description="a longer prompt is cut at the front (counted, not dropped)")
    max_response_chars: Count = Field(description="a longer response goes to quarantine")


class Model(Section):
    source: str = Field(description="`scratch`, or a Hugging Face id or folder of a causal language model")
    revision: str | None = Field(None, description="commit of a Hub model; required for a Hub id")
    convert_bin: bool = Field(
        False, description="where it has no safetensors, take its pickle, read by torch's weights-only loader"
    )
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
    dropout: Share = Field(0.0, description="dropout on the adapter input; 0 in `rl.lora`, as RLOO switches it off")
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
    convert_bin: bool = Field(
        False,
        description="where it has no safetensors, convert its pickle once, read by torch's weights-only loader",
    )
    input: RewardInput = Field(
        description="what it reads: its tokenizer's chat template; the response alone; an hh-rlhf dialogue "
        "('\\n\\nHuman: ...\\n\\nAssistant: ...'); prompt and response, in either order, as the two texts its "
        "tokenizer joins; response and prompt with its BOS token between them. unknown refuses to run"
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
    kind: Literal["circulant", "identity", "rows"] = Field(
        "circulant",
        description="reward weights of the backbones: `circulant` with `beta`, `identity` (Rewarded Soup's), or `rows`",
    )
    beta: float = Field(description="diagonal of the circulant basis, in (1/n, 1]; 1 is Rewarded Soup")
    rows: list[list[float]] | None = Field(
        None, description="kind rows only: [backbone, objective], as many backbones as objectives or more"
    )


class Seek(Section):
    betas: list[float] = Field(
        [], description="values of basis.beta to compare by short runs before the full one; empty takes basis.beta"
    )
    share: Part = Field(0.2, description="part of the full run's steps that each of them trains")
    samples: Count = Field(256, description="validation prompts per grid point that they are compared on")


class Extrapolation(Section):
    scales: list[Positive] = Field(
        [1.0], description="candidates for scaling every method's change of the SFT weights; 1 is none and always one"
    )
    per_objective: bool = Field(
        False, description="choose a scale for each objective at its own vertex, instead of one for all preferences"
    )
    samples: Count = Field(256, description="validation prompts per preference that they are compared on")
    kl: Positive = Field(10.0, description="a scale is out where the mean KL exceeds this, in nats per response")


class Diagnosis(Section):
    samples: int = Field(
        0,
        ge=0,
        description="validation prompts of the stage `diagnose`, which foretells from the specialists what Bone Soup "
        "gains; 0 leaves it out",
    )


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


class Ric(Section):
    rounds: int = Field(1, ge=0, description="online rounds; the offline phase comes before them")
    online: Part = Field(0.33, description="part of the updates and of the scored responses that they take together")
    learning_rate: Positive = Field(0.003, description="peak of every phase; cosine decay after 5% warm-up")
    keep: Share = Field(
        0.7, description="online, a response is learned from where it reaches this quantile of any objective"
    )


class Group(Section):
    slots: list[str] = Field(
        min_length=1,
        description="policies trained in one process: backbone-K, specialist-K, oracle-K, K from 1",
    )


class Hardware(Section):
    gradient_checkpointing: bool = Field(
        False, description="compute activations anew in the backward pass: less memory for a third more arithmetic"
    )
    vllm: bool = Field(False, description="generate rollouts with vLLM beside the trainer; needs a GPU and the package")
    accelerate: str | None = Field(
        None,
        description="accelerate's settings to train policies under, such as accelerate/fsdp.yaml; null is one process",
    )


class Machine(Section):
    name: str = Field(description="what the figures below are of")
    memory: Positive = Field(description="of one GPU, in GB")
    tflops: Positive = Field(description="bf16 matrix arithmetic of one GPU, as its maker states it, in TFLOP/s")
    float32_tflops: Positive = Field(description="the same in float32, which reward models score in")
    bandwidth: Positive = Field(description="of one GPU's memory, in GB/s")
    gpus: Count = Field(1, description="GPUs that train one policy; each holds all weights")


class Estimate(Section):
    """What `bonesoup profile --estimate` calculates with: copied from model cards and data sheets, never looked up."""

    parameters: Count = Field(description="of the base model")
    layers: Count = Field(description="of the base model")
    hidden: Count = Field(description="its width")
    kv_width: Count = Field(description="width of a layer's keys, and of its values: key heads times their width")
    vocabulary: Count = Field(description="its tokens")
    matrices: dict[str, Annotated[list[Count], Field(min_length=2, max_length=2)]] = Field(
        description="a layer's linear modules, [inputs, outputs]: what LoRA adapts"
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
    interior: Share = Field(description="a preference is interior when no weight is below this")
    bootstrap: Count = Field(description="resamples of prompts for the intervals")
    confidence: Part = Field(description="level of the intervals")


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
    seek: Seek = Field(Seek(), description="the search for beta")
    extrapolation: Extrapolation = Field(Extrapolation(), description="beyond the policies, for every method alike")
    oracles: list[list[float]] = Field(description="preferences that get a policy of their own")
    rl: Rl
    ric: Ric = Field(Ric(), description="Rewards-in-Context, where `ric` is among the methods")
    diagnosis: Diagnosis = Field(Diagnosis(), description="what the specialists foretell")
    policies: dict[Name, Group] = Field(description="groups of slots; a group is one stage")
    methods: list[Literal["sft", "rewarded", "bone", "unmapped", "mod", "ric", "oracle"]] = Field(
        min_length=1, description="what is evaluated; docs/rivals.md says what each is"
    )
    hardware: Hardware = Field(Hardware(), description="how policies are trained on the machine at hand")
    evaluation: Evaluation
    report: Report
    preferences: dict[Name, dict[str, float]] = Field(description="named preferences")
    register_: Register = Field(alias="register")
    estimate: Estimate | None = Field(None, description="sizes that `--estimate` calculates with; no stage reads them")

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
