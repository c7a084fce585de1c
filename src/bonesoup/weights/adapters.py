"""LoRA adapters as plain tensors: read from PEFT folders, combined exactly, written back.

The sum of c_j * scale_j * B_j A_j is one adapter whose A's are stacked and whose B's, with the factors folded
in, stand side by side: exact for any real coefficients and unequal ranks, which add up. Averaging the A's and
B's apart gives another matrix, with cross terms B_i A_j as large as the effect: nothing here does that.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from bonesoup.files import appearing, read_json, write_json

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"

_KEY = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<factor>[AB])\.weight")

# Settings under which an adapter is more, or other, than base + scale * B A.
_REFUSED = (
    "use_dora",
    "lora_bias",
    "modules_to_save",
    "target_parameters",
    "trainable_token_indices",
    "layer_replication",
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "monteclora_config",
    "use_bdlora",
    "use_qalora",
    "velora_config",
)
# Initialisations that leave the base's weights alone; pissa, olora, corda, loftq and lora_ga change them.
_PLAIN_INIT = (True, False, None, "gaussian", "eva", "orthogonal")


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter in float32 on the CPU.

    Attributes:
        config: what adapter_config.json holds.
        tensors: per module of the base model, A [rank, in] and B [out, rank]; ranks may differ.
        scale: per module; the weight the adapter adds is scale * B A.
    """

    config: dict
    tensors: dict[str, tuple[torch.Tensor, torch.Tensor]]
    scale: dict[str, float]

    def delta(self, module: str) -> torch.Tensor:
        """The weight added to one module: float32 [out, in]."""
        a, b = self.tensors[module]
        return (b * self.scale[module]) @ a


def load(folder: Path) -> Adapter:
    """Read a PEFT LoRA folder.

    Ranks and alphas per module (rank_pattern, alpha_pattern) and rsLoRA's alpha / sqrt(rank) are honoured.

    Raises:
        ValueError: naming the file and the tensor or key: something is missing or truncated, A and B do not
            fit each other or the configured rank, values are not finite, or the adapter is not plain LoRA
            (DoRA, biases, modules saved whole, an initialisation that changed the base's weights, ...).
    """
    folder = Path(folder)
    config = _read_config(folder / CONFIG)
    found = _read_factors(folder / WEIGHTS)
    tensors, scale = {}, {}
    for module, factors in found.items():
        for factor in "AB":
            if factor not in factors:
                raise ValueError(f"{folder / WEIGHTS}: module {module} has no lora_{factor}")
        a, b = factors["A"], factors["B"]
        rank = _pattern(config.get("rank_pattern"), module, config["r"])
        if not len(a) == b.shape[1] == rank:
            raise ValueError(
                f"{folder / WEIGHTS}: module {module} has A {list(a.shape)} and B {list(b.shape)}, "
                f"{CONFIG} gives it rank {rank}"
            )
        alpha = _pattern(config.get("alpha_pattern"), module, config["lora_alpha"])
        tensors[module] = (a, b)
        scale[module] = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    return Adapter(config, tensors, scale)


def concatenate(parts: Sequence[tuple[Adapter, float]]) -> Adapter:
    """The adapter whose weights are the sum of coefficient * adapter, exactly.

    Ranks add up, coefficients and scales are folded into B in float32, so that the scale is 1 everywhere. A
    module that only some adapters have keeps the terms of those.

    Raises:
        ValueError: no parts, a coefficient that is not finite, or adapters of different base models.
    """
    if not parts:
        raise ValueError("a soup needs one adapter or more, found none")
    for index, (_, coefficient) in enumerate(parts):
        if not math.isfinite(coefficient):
            raise ValueError(f"coefficient {index} is {coefficient}: every coefficient must be finite")
    tensors = {}
    for module in dict.fromkeys(name for adapter, _ in parts for name in adapter.tensors):
        terms = [(adapter, float(c)) for adapter, c in parts if module in adapter.tensors]
        shapes = {(adapter.tensors[module][1].shape[0], adapter.tensors[module][0].shape[1]) for adapter, _ in terms}
        if len(shapes) > 1:
            raise ValueError(
                f"module {module} has weights of shapes {sorted(shapes)} in different adapters: "
                "they belong to different base models"
            )
        tensors[module] = (
            torch.cat([adapter.tensors[module][0] for adapter, _ in terms]),
            torch.cat([adapter.tensors[module][1] * (c * adapter.scale[module]) for adapter, c in terms], dim=1),
        )
    return Adapter(_plain_config(parts[0][0].config), tensors, dict.fromkeys(tensors, 1.0))


def dense(adapter: Adapter) -> dict[str, torch.Tensor]:
    """The weight an adapter adds to each module: float32 [out, in]. A Conv1D (GPT-2) stores its transpose."""
    return {module: adapter.delta(module) for module in adapter.tensors}


def save(adapter: Adapter, folder: Path, base: str, card: str | None = None) -> None:
    """Write a folder that `peft.PeftModel.from_pretrained` loads; whole or not at all.

    vLLM loads it too where every scale is 1, as in a soup: it reads no rank_pattern and no alpha_pattern, only r,
    which is the largest rank here, and alpha / r.

    Args:
        adapter: ranks and scales may differ by module.
        folder: appears by rename; an old one is replaced.
        base: path or id of the base model, kept as base_model_name_or_path.
        card: README.md.
    """
    if not adapter.tensors:
        raise ValueError("the adapter has no modules: nothing to save")
    ranks = {module: len(a) for module, (a, _) in adapter.tensors.items()}
    alphas = {module: _number(adapter.scale[module] * rank) for module, rank in ranks.items()}
    rank = max(ranks.values())
    alpha = next(alphas[module] for module in ranks if ranks[module] == rank)
    config = _plain_config(adapter.config) | {
        "base_model_name_or_path": str(base),
        "target_modules": sorted(adapter.tensors),
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {module: value for module, value in ranks.items() if value != rank},
        "alpha_pattern": {module: value for module, value in alphas.items() if value != alpha},
    }
    state = {
        f"base_model.model.{module}.lora_{factor}.weight": tensor.contiguous().clone()
        for module, pair in adapter.tensors.items()
        for factor, tensor in zip("AB", pair, strict=True)
    }
    with appearing(Path(folder)) as temporary:
        temporary.mkdir()
        save_file(state, temporary / WEIGHTS, metadata={"format": "pt"})
        write_json(temporary / CONFIG, config)
        if card:
            (temporary / "README.md").write_text(card)


def _plain_config(config: dict) -> dict:
    """What a combined adapter keeps of its parts' settings; the rest is given by its tensors."""
    return {
        "peft_type": "LORA",
        "task_type": config.get("task_type"),
        "base_model_name_or_path": config.get("base_model_name_or_path"),
        "fan_in_fan_out": config.get("fan_in_fan_out", False),
        "bias": "none",
        "lora_dropout": 0.0,
        "inference_mode": True,
    }


def _number(value: float) -> float | int:
    return int(value) if value == int(value) else value


def _pattern(patterns: dict | None, module: str, default: float) -> float:
    """A module's entry in rank_pattern or alpha_pattern: as in PEFT, the first key that matches its end."""
    matching = (value for key, value in (patterns or {}).items() if re.match(rf"(.*\.)?({key})$", module))
    return next(matching, default)


def _read_config(path: Path) -> dict:
    if not path.is_file():
        raise ValueError(f"{path} does not exist: not the folder of a PEFT adapter")
    try:
        config = read_json(path)
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise ValueError(f"{path} does not describe a LoRA adapter (peft_type LORA)")
    if refused := [key for key in _REFUSED if config.get(key)]:
        raise ValueError(f"{path} sets {', '.join(refused)}: only plain LoRA can be merged exactly")
    if config.get("bias", "none") != "none":
        raise ValueError(f"{path} has bias {config['bias']!r}: only adapters without biases can be merged exactly")
    if config.get("init_lora_weights") not in _PLAIN_INIT:
        raise ValueError(
            f"{path} has init_lora_weights {config['init_lora_weights']!r}, which changes the base itself: "
            "convert it to a plain LoRA adapter first (PEFT's path_initial_model_for_weight_conversion)"
        )
    for key in ("r", "lora_alpha"):
        if not isinstance(config.get(key), int | float) or not config[key] > 0:
            raise ValueError(f"{path}: {key} must be a positive number, found {config.get(key)!r}")
    return config


def _read_factors(path: Path) -> dict[str, dict[str, torch.Tensor]]:
    """{module: {"A": [r, in], "B": [out, r]}} in float32."""
    if not path.is_file():
        raise ValueError(f"{path} does not exist; adapters are read from safetensors only")
    found: dict[str, dict[str, torch.Tensor]] = {}
    try:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a dict
                if not (match := _KEY.fullmatch(name)):
                    raise ValueError(
                        f"{path}: tensor {name} is no LoRA factor of a linear layer: embeddings, biases, "
                        "DoRA vectors and modules saved whole cannot be merged (embeddings that were not "
                        "trained are left out by save_pretrained(..., save_embedding_layers=False))"
                    )
                tensor = file.get_tensor(name).float()
                if tensor.ndim != 2:
                    raise ValueError(f"{path}: tensor {name} has shape {list(tensor.shape)}, expected a matrix")
                if not torch.isfinite(tensor).all():
                    raise ValueError(f"{path}: tensor {name} has values that are not finite")
                found.setdefault(match["module"], {})[match["factor"]] = tensor
    except SafetensorError as error:
        raise ValueError(f"{path} cannot be read, it may be truncated: {error}") from None
    if not found:
        raise ValueError(f"{path} holds no tensors")
    return found
