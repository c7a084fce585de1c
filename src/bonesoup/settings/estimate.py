"""Estimate the GPU memory and hours of a full-size profile before renting it, from sizes and data sheets alone.

docs/full-size.md shows each formula and where its constants are from. Nothing here is measured on a GPU: take the
hours for their order of magnitude, and the GB for a lower bound with the tenth of reserve that is in them.
"""

from dataclasses import dataclass

from bonesoup.method.basis import basis_rows
from bonesoup.method.methods import AUTO, METHODS, Method, Plan, servable, trainings
from bonesoup.method.preferences import lattice
from bonesoup.settings.schema import Estimate, Settings

GB = 1e9
BF16, FP32 = 2, 4
# Bytes that a decoder layer stores for its backward pass, per token and unit of width: counted from PyTorch's saved
# tensors on a Llama with an adapter on every linear module, bf16; checkpointing stores only the input.
KEPT, CHECKPOINT = 51, 2
ADAM = 16  # bytes per trained number: value, gradient and two moments in float32
CONTEXT = 1.5  # GB of CUDA context, kernels and communication
RESERVE = 1.1  # fragmentation
# Reached shares of the data sheet's figures; decoding by Transformers also waits for its many small kernels.
BUSY, BUSY_BANDWIDTH, LAUNCH = 0.4, 0.6, 0.0008  # seconds per layer and decoding step
CHARS_PER_TOKEN = 3  # a low figure for English, for the longest prompt


@dataclass(frozen=True)
class Figures:
    """Memory, hours and policies of a run.

    Attributes:
        memory: part -> GB while a policy trains.
        sft: GB at the peak of that stage; 0 without it.
        hours: stage -> h on one GPU.
        policies: number of distinct rows to train.
    """

    memory: dict[str, float]
    sft: float
    hours: dict[str, float]
    policies: int

    @property
    def peak(self) -> float:
        """Return the peak in GB, reserve included: rollouts and updates take turns."""
        turns = ("KV cache of rollouts", "activations of an update")
        fixed = sum(gb for part, gb in self.memory.items() if part not in turns)
        return RESERVE * (fixed + max(self.memory[part] for part in turns))


def lora_numbers(sizes: Estimate, rank: int, targets: str | list[str]) -> int:
    """Count the trained numbers of an adapter: rank * (inputs + outputs) of every adapted matrix."""
    adapted = [shape for name, shape in sizes.matrices.items() if targets == "all-linear" or name in targets]
    return sizes.layers * rank * sum(inputs + outputs for inputs, outputs in adapted)


def used(sizes: Estimate) -> int:
    """Count the weights that multiply each token: the layers' matrices and the head, without the embedding table."""
    return sizes.layers * sum(a * b for a, b in sizes.matrices.values()) + sizes.vocabulary * sizes.hidden


def figures(settings: Settings) -> Figures:
    """Estimate a profile.

    Raises:
        ValueError: it has no `estimate` section.
    """
    sizes = settings.estimate
    if sizes is None:
        raise ValueError(
            "estimate: null: there are no sizes to calculate with; the full-size profiles have them (docs/full-size.md)"
        )
    steps = _trained(settings)
    hours = _hours(settings, sizes, sum(steps))
    return Figures(_memory(settings, sizes), _sft(settings, sizes), hours, len(steps))


def _trained(settings: Settings) -> list[int]:
    """List the steps of every training; coinciding policies are trained once, and some together."""
    chosen = settings.basis
    basis = basis_rows(chosen.kind, len(settings.objectives), settings.beta, chosen.rows)
    plan = Plan.of(basis, settings.oracles)
    every = trainings(settings.methods, plan, settings.rl.steps, settings.rl.updates).values()
    distinct = {(each.together or tuple(each.row), each.steps, each.start, each.reads) for each in every}
    return [steps for _, steps, *_ in distinct]


def _weights(settings: Settings, sizes: Estimate) -> float:
    return sizes.parameters * (BF16 if settings.model.dtype == "bfloat16" else FP32) / GB


def _activations(settings: Settings, sizes: Estimate, tokens: float) -> float:
    """Return the GB that a backward pass through so many tokens needs; TRL's fused head never holds all logits."""
    kept = KEPT + CHECKPOINT * sizes.layers if settings.hardware.gradient_checkpointing else KEPT * sizes.layers
    return kept * tokens * sizes.hidden / GB


def _sft(settings: Settings, sizes: Estimate) -> float:
    if settings.sft is None:
        return 0.0
    sft, longest = settings.sft, (settings.data.max_prompt_chars + settings.data.max_response_chars) / CHARS_PER_TOKEN
    trained = lora_numbers(sizes, sft.lora.rank, sft.lora.targets) if sft.lora else sizes.parameters
    parts = [trained * ADAM / GB, _activations(settings, sizes, sft.batch * longest), CONTEXT]
    return RESERVE * (_weights(settings, sizes) + sum(parts))


def _memory(settings: Settings, sizes: Estimate) -> dict[str, float]:
    rl = settings.rl
    rows = rl.prompts * rl.generations / sizes.machine.gpus
    longest = settings.data.max_prompt_chars / CHARS_PER_TOKEN + settings.generation.max_new_tokens
    return {
        "weights": _weights(settings, sizes),
        "adapter and optimiser": lora_numbers(sizes, rl.lora.rank, rl.lora.targets) * ADAM / GB,
        "reward models": sum(sizes.rewards.values()) * FP32 / GB,
        "KV cache of rollouts": 2 * sizes.layers * sizes.kv_width * longest * rows * BF16 / GB,
        "activations of an update": _activations(settings, sizes, rl.micro_batch * longest),
        "CUDA context": CONTEXT,
    }


def _hours(settings: Settings, sizes: Estimate, steps: int) -> dict[str, float]:
    rl, machine = settings.rl, sizes.machine
    peak = machine.tflops * 1e12 * BUSY
    tokens = sizes.prompt_tokens + settings.generation.max_new_tokens
    again = 2 if settings.hardware.gradient_checkpointing else 0

    def sampled(rows: float) -> float:
        """Estimate the seconds to sample responses for `rows` prompts at once, and to score them."""
        work = 2 * used(sizes)
        weights = used(sizes) * BF16 / (machine.bandwidth * 1e9 * BUSY_BANDWIDTH)
        step = max(weights, work * rows / peak) + (0 if settings.hardware.vllm else LAUNCH * sizes.layers)
        score = 2 * sum(sizes.rewards.values()) * rows * tokens / (machine.float32_tflops * 1e12 * BUSY)
        return work * sizes.prompt_tokens * rows / peak + settings.generation.max_new_tokens * step + score

    rows = rl.prompts * rl.generations / machine.gpus
    # Forward and backward through frozen weights, the reference's forward pass, and checkpointing's second one.
    update = (2 + 2 + 2 + again) * used(sizes) * rows * tokens / peak
    step = sampled(rows) + update
    sft = 0.0
    if settings.sft:
        backward = 2 if settings.sft.lora else 4
        sft = settings.sft.steps * settings.sft.batch * tokens * (2 + backward + again) * used(sizes) / peak
    grid = len(lattice(len(settings.objectives), settings.evaluation.parts))
    points = sum(_points(METHODS[method], grid, settings) for method in settings.methods)
    batch = settings.evaluation.batch
    # The probes of the chosen beta continue as its policies.
    n = len(settings.objectives)
    policy = rl.budget(n) // n
    probes = max(0, len(settings.seek.betas) - 1) * settings.seek.share * n
    probed = len(settings.seek.betas) * grid * settings.seek.samples
    compared = servable(settings.methods) if settings.register_.method == AUTO else []
    chosen = len(compared) * grid * settings.register_.samples if len(compared) > 1 else 0
    seconds = {
        "sft": sft,
        "normalise": settings.normalise.samples / batch * sampled(batch),
        "policy, each": policy * step,
        "policies": steps * step,
        "probes": probes * policy * step + probed / batch * sampled(batch),
        "choose": chosen / batch * sampled(batch),
        "front": points * settings.evaluation.samples / batch * sampled(batch),
    }
    return {name: value / 3600 for name, value in seconds.items()}


def _points(method: Method, grid: int, settings: Settings) -> int:
    """Count the forward passes per token of a method's whole front, in units of one model at one preference."""
    asked = {"any": grid, "rows": len(settings.oracles), "one": 1}[method.answers]
    # A mixture of distributions runs every policy.
    return asked * (len(settings.objectives) if method.mixes == "distributions" else 1)


def report(settings: Settings) -> str:
    """Write the estimate as text for a terminal."""
    needed, machine = figures(settings), settings.estimate.machine
    total = sum(hours for stage, hours in needed.hours.items() if stage != "policy, each")
    several = f", {machine.gpus} of them per policy" if machine.gpus > 1 else ""
    fits = ["fits" if peak <= machine.memory else "does not fit" for peak in (needed.peak, needed.sft)]
    lines = [f"On {machine.name} ({machine.memory:g} GB){several}:", "", "Memory of one GPU while a policy trains, GB"]
    lines += [f"  {part:28}{gb:8.1f}" for part, gb in needed.memory.items()]
    lines += [f"  {'peak, with a tenth to spare':28}{needed.peak:8.1f}  {fits[0]}"]
    if settings.sft:
        lines += [f"  {'peak of SFT, likewise':28}{needed.sft:8.1f}  {fits[1]}"]
    lines += ["", "Hours, one policy at a time"]
    lines += [f"  {stage:28}{hours:8.1f}" for stage, hours in needed.hours.items()]
    lines += [f"  {'sum':28}{total:8.1f}  {needed.policies} policies", ""]
    lines += [f"{METHODS[m].title}'s training is not counted." for m in settings.methods if METHODS[m].stage]
    return "\n".join(
        [*lines, "From a formula (docs/full-size.md), not from a run: hours may be off by a factor of two."]
    )
