"""PEFT's adapter folders: read whatever tool wrote them, refused by name where they are more than LoRA, written.

An adapter is taken only if base + scale * B A is all it does.
"""

import math
import re
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from bonesoup.files import appearing, write_json
from bonesoup.weights.adapters import Adapter
from bonesoup.weights.tensors import read_foreign_json, refuse_pointer

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"

# Settings that do not affect base + scale * B A, or that tensors, ranks and scales already determine.
_HARMLESS = {
    "peft_type",
    "task_type",
    "auto_mapping",
    "peft_version",
    "base_model_name_or_path",
    "base_model_class",
    "parent_library",
    "revision",
    "inference_mode",
    "r",
    "lora_alpha",
    "rank_pattern",
    "alpha_pattern",
    "use_rslora",
    "target_modules",
    "exclude_modules",
    "layers_to_transform",
    "layers_pattern",
    "lora_dropout",
    "fan_in_fan_out",
    "bias",
    "init_lora_weights",
    "eva_config",
    "loftq_config",
    "corda_config",
    "lora_ga_config",
    "megatron_core",
    "qalora_group_size",
    "runtime_config",
    "unsloth_fixed",
}
# Initialisations that leave the base's weights alone; pissa, olora, corda, loftq and lora_ga change them.
_PLAIN_INIT = (True, False, None, "gaussian", "eva", "orthogonal")

# Parts that torch.compile, DistributedDataParallel, FSDP and activation checkpointing add to module names.
_WRAPPERS = re.compile(r"(^|\.)(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)(?=\.)|^module(?=\.)")
# PEFT's names, with or without the adapter's name ("default"), and those of diffusers and kohya.
_FACTOR = re.compile(
    r"(?P<module>.+?)\.(?:lora_(?P<peft>[AB])(?:\.(?P<name>[^.]+))?\.weight"
    r"|lora_embedding_(?P<embedding>[AB])(?:\.(?P<embedding_name>[^.]+))?"
    r"|(?:lora\.|lora_)(?P<other>down|up)\.weight)"
)
_ALPHA = re.compile(r"(?P<module>.+)\.alpha")
_COPY = re.compile(r"(?P<module>.+?)(?:\.base_layer)?\.weight")


def load(folder: Path) -> Adapter:
    """Read a LoRA adapter from the folder that PEFT, TRL, Axolotl, LLaMA-Factory or Unsloth wrote.

    Ranks and alphas per module (rank_pattern, alpha_pattern) and rsLoRA's alpha / sqrt(rank) are honoured. Whole
    weights of the base's embeddings, which PEFT saves with an adapter on them, are noted in `copies`.

    Raises:
        ValueError: naming the file and the tensor or key: something is missing or truncated, A and B do not
            fit each other or the configured rank, values are not finite, or the adapter is more than plain LoRA
            (DoRA, biases, modules or tokens trained whole, an initialisation that changed the base's weights, ...).
    """
    folder = Path(folder)
    config = _read_config(folder / CONFIG)
    path = folder / WEIGHTS
    factors, alphas, embeddings, copies = _read_tensors(path)
    tensors, scale = {}, {}
    for module, pair in factors.items():
        for factor in "AB":
            if factor not in pair:
                raise ValueError(f"{path}: module {module} has no lora_{factor}")
        a, b = pair["A"], pair["B"]
        rank = _pattern(config.get("rank_pattern"), module, config["r"])
        if not len(a) == b.shape[1] == rank:
            raise ValueError(
                f"{path}: module {module} has A {list(a.shape)} and B {list(b.shape)}, {CONFIG} gives it rank {rank}"
            )
        alpha = alphas.pop(module, _pattern(config.get("alpha_pattern"), module, config["lora_alpha"]))
        tensors[module] = (a, b)
        scale[module] = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    if alphas:
        raise ValueError(f"{path}: module {next(iter(alphas))} has an alpha and no factors")
    copies = {name: (path, tensor) for name, tensor in copies.items()}
    return Adapter(config, tensors, scale, frozenset(embeddings), copies)


def check_copies(adapter: Adapter, weights, who: str, base: str) -> None:
    """Refuse an adapter whose file holds weights of a different base, such as resized embeddings.

    Args:
        weights: weights(parameter) is the base's tensor, None where it has none by this name.
        who, base: names of the adapter and the model in the message.

    Raises:
        ValueError: a tensor differs from the base's; names it.
    """
    for name, (path, tensor) in adapter.copies.items():
        expected = weights(name)
        with safe_open(path, framework="pt") as file:
            stored = file.get_tensor(tensor)
        if expected is None or stored.shape != expected.shape:
            shape = "does not have" if expected is None else f"has as {list(expected.shape)}"
            raise ValueError(
                f"{path}: {who} brings its own weights {tensor} {list(stored.shape)}, which {base} {shape}: its tokens "
                "were added or trained whole; merge it into its base with PEFT first (merge_and_unload)"
            )
        # Either side may have been rounded to the other's dtype.
        narrow = min(stored.dtype, expected.dtype, key=lambda dtype: dtype.itemsize)
        if not torch.equal(stored.to(narrow), expected.cpu().to(narrow)):
            raise ValueError(
                f"{path}: {who} brings its own weights {tensor}, which differ from those of {base}: they were trained "
                "whole, or the adapter belongs to another base model"
            )


def save(adapter: Adapter, folder: Path, base: str, card: str | None = None) -> None:
    """Write a folder that `peft.PeftModel.from_pretrained` loads; whole or not at all.

    So does vLLM 0.32. A reader that knows neither rank_pattern nor alpha_pattern needs every scale to be 1, as in a
    soup: it takes alpha / r, where r is the largest rank.

    Args:
        adapter: ranks and scales may differ by module.
        folder: appears by rename; an old one is replaced.
        base: path or id of the base model, kept as base_model_name_or_path.
        card: the text of README.md.
    """
    if not adapter.tensors:
        raise ValueError("the adapter has no modules: nothing to save")
    ranks = {module: len(a) for module, (a, _) in adapter.tensors.items()}
    alphas = {module: _number(adapter.scale[module] * rank) for module, rank in ranks.items()}
    rank = max(ranks.values())
    alpha = next(alphas[module] for module in ranks if ranks[module] == rank)
    config = {
        "peft_type": "LORA",
        "task_type": adapter.config.get("task_type"),
        "base_model_name_or_path": str(base),
        "fan_in_fan_out": adapter.config.get("fan_in_fan_out", False),
        "bias": "none",
        "lora_dropout": 0.0,
        "inference_mode": True,
        "target_modules": sorted(adapter.tensors),
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {module: value for module, value in ranks.items() if value != rank},
        "alpha_pattern": {module: value for module, value in alphas.items() if value != alpha},
    }
    state = {
        f"base_model.model.{module}."
        + (f"lora_embedding_{factor}" if module in adapter.embeddings else f"lora_{factor}.weight"): tensor.clone(
            memory_format=torch.contiguous_format
        )
        for module, pair in adapter.tensors.items()
        for factor, tensor in zip("AB", pair, strict=True)
    }
    with appearing(Path(folder)) as temporary:
        temporary.mkdir()
        save_file(state, temporary / WEIGHTS, metadata={"format": "pt"})
        write_json(temporary / CONFIG, config)
        if card:
            (temporary / "README.md").write_text(card)


def _number(value: float) -> float | int:
    return int(value) if value == int(value) else value


def _pattern(patterns: dict | None, module: str, default: float) -> float:
    """Return a module's entry of rank_pattern or alpha_pattern: as in PEFT, the first key that matches its end."""
    matching = (value for key, value in (patterns or {}).items() if re.match(rf"(.*\.)?({key})$", module))
    return next(matching, default)


def _read_config(path: Path) -> dict:
    if not path.is_file():
        raise ValueError(f"{path} does not exist: not the folder of a PEFT adapter")
    config = read_foreign_json(path)
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise ValueError(f"{path} does not describe a LoRA adapter (peft_type LORA)")
    if refused := [key for key, value in config.items() if value and key not in _HARMLESS]:
        raise ValueError(f"{path} sets {', '.join(refused)}: only plain LoRA can be mixed exactly")
    if config.get("bias", "none") != "none":
        raise ValueError(f"{path} has bias {config['bias']!r}: only adapters without biases can be mixed exactly")
    if config.get("init_lora_weights") not in _PLAIN_INIT:
        raise ValueError(
            f"{path} has init_lora_weights {config['init_lora_weights']!r}, which changes the base itself: "
            "convert it to a plain LoRA adapter first (PEFT's path_initial_model_for_weight_conversion)"
        )
    for key in ("r", "lora_alpha"):
        if not isinstance(config.get(key), int | float) or not config[key] > 0:
            raise ValueError(f"{path}: {key} is {config.get(key)!r}, expected a positive number")
    return config


def _read_tensors(path: Path) -> tuple[dict[str, dict[str, torch.Tensor]], dict[str, float], set[str], dict[str, str]]:
    """Read the tensors of an adapter in float32.

    Returns:
        factors: {module: {"A": [rank, in], "B": [out, rank]}}.
        alphas: {module: alpha}, for modules with a separate alpha.
        embeddings: the modules that are embeddings.
        copies: {parameter of the base model: tensor's name} of the base's weights that the file holds.
    """
    if not path.is_file():
        pickle = path.with_suffix(".bin")
        hint = f"; {pickle.name} is a pickle: load it with PEFT and save it again" if pickle.is_file() else ""
        raise ValueError(f"{path} does not exist: adapters are read from safetensors only{hint}")
    refuse_pointer(path)
    factors: dict[str, dict[str, torch.Tensor]] = {}
    alphas, embeddings, copies, names = {}, set(), {}, set()
    try:
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 - not a dict
                name = _WRAPPERS.sub("", key).removeprefix(".").removeprefix("base_model.model.")
                name = _WRAPPERS.sub("", name).removeprefix(".")
                if match := _FACTOR.fullmatch(name):
                    module = match["module"]
                    factor = match["peft"] or match["embedding"] or {"down": "A", "up": "B"}[match["other"]]
                    names.add(match["name"] or match["embedding_name"])
                    if match["embedding"]:
                        embeddings.add(module)
                    if factor in factors.setdefault(module, {}):
                        raise ValueError(
                            f"{path}: module {module} has more than one lora_{factor}: save each adapter alone"
                        )
                    factors[module][factor] = _checked(path, key, file.get_tensor(key))
                elif match := _ALPHA.fullmatch(name):
                    alphas[match["module"]] = float(file.get_tensor(key))
                elif (match := _COPY.fullmatch(name)) and "lora_" not in name:
                    copies[f"{match['module']}.weight"] = key
                else:
                    raise ValueError(
                        f"{path}: tensor {key} is not a factor of plain LoRA: biases, DoRA's magnitudes and tokens "
                        "trained whole cannot be mixed"
                    )
    except SafetensorError as error:
        raise ValueError(f"{path} cannot be read, it may be truncated: {error}") from None
    if len(names) > 1:
        raise ValueError(
            f"{path} holds several adapters ({', '.join(sorted(map(str, names)))}): save each adapter alone"
        )
    if not factors:
        raise ValueError(f"{path} holds no tensors of an adapter")
    return factors, alphas, embeddings, copies


def _checked(path: Path, key: str, tensor: torch.Tensor) -> torch.Tensor:
    tensor = tensor.float()
    if tensor.ndim != 2:
        raise ValueError(f"{path}: tensor {key} has shape {list(tensor.shape)}, expected a matrix")
    if not torch.isfinite(tensor).all():
        raise ValueError(f"{path}: tensor {key} has values that are not finite")
    return tensor
