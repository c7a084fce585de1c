"""The soup that ships with the package: packed from a finished run, served on a base that pip fetches.

The folder `bonesoup/demo` holds recipes, adapters in bfloat16, the measured front, and in demo.json the source of the
base with the digests of everything. The base is downloaded once, by pinned version and digest.
"""

import hashlib
import os
from dataclasses import asdict, replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, PreTrainedModel

import bonesoup
from bonesoup.files import appearing, file_digest, read_json, write_json
from bonesoup.generation.soup import Soup
from bonesoup.method.methods import SFT
from bonesoup.serving.source import Source, base_alone
from bonesoup.settings.schema import Model
from bonesoup.training.base import pretrained
from bonesoup.weights.adapter_files import CONFIG, WEIGHTS
from bonesoup.weights.pretrained import load_model

FOLDER = Path(bonesoup.__file__).with_name("demo")
FACTS, FRONT, CARD = "demo.json", "fronts.json", "README.md"


def pack(source: Source, model: Model, out: Path) -> dict:
    """Write a soup into `out`, without its base, so that `unpack` can serve it anywhere; returns the facts.

    Args:
        source: a finished run.
        model: where its base comes from.

    Raises:
        ValueError: the base is not the model as it comes: it was fine-tuned, and no package holds it.
    """
    made, _, _ = pretrained(model)
    base = _digest(load_model(AutoModelForCausalLM, source.soup.base, dtype="auto"))
    if _digest(made) != base:
        raise ValueError(
            f"{source.soup.base} is not {model.source}: only a soup on a base without SFT can be packed (sft: null)"
        )
    with appearing(out) as folder:
        folder.mkdir()
        for method, soup in source.soups.items():
            if soup.policies:
                _write_soup(soup, folder, method)
        if source.front is not None:
            write_json(folder / FRONT, source.front)
        (folder / CARD).write_text(_card(source, model))
        facts = {
            "name": "bonesoup-demo",
            "model": model.model_dump(),
            "base": base,
            "preferences": source.preferences,
            "default": source.default,
            "temperature": source.temperature,
            "max_new_tokens": source.max_new_tokens,
            "examples": list(source.examples),
            "methods": [method for method, soup in source.soups.items() if soup.policies],
        }
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        facts["files"] = {str(path.relative_to(folder)): file_digest(path) for path in files}
        write_json(folder / FACTS, facts)
    return facts


def _digest(model: PreTrainedModel) -> str:
    """Return the SHA-256 of a model's weights, independent of their storage."""
    running = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        running.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        running.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return running.hexdigest()


def _write_soup(soup: Soup, folder: Path, method: str) -> None:
    policies = []
    for policy in soup.policies:
        target = folder / "policies" / policy.slot
        target.mkdir(parents=True, exist_ok=True)
        tensors = {name: tensor.to(torch.bfloat16) for name, tensor in load_file(policy.path / WEIGHTS).items()}
        save_file(tensors, target / WEIGHTS, {"format": "pt"})
        # The path of the base on the training machine is meaningless here.
        write_json(target / CONFIG, read_json(policy.path / CONFIG) | {"base_model_name_or_path": ""})
        policies.append({"slot": policy.slot, "path": f"policies/{policy.slot}", "row": list(policy.row)})
    recipe = {name: value for name, value in asdict(soup).items() if name not in ("base", "policies", "reference")}
    write_json(folder / f"{method}.json", recipe | {"base": "base", "policies": policies})


def _card(source: Source, model: Model) -> str:
    names = " and ".join(source.objectives)
    policies = "\n".join(
        f"- `{policy.slot}`: {', '.join(f'{n} {w:g}' for n, w in zip(source.objectives, policy.row, strict=True))}"
        for soup in source.soups.values()
        for policy in soup.policies
    )
    return f"""# The demo soup

Adapters on {model.source}, steered between {names} by `bonesoup serve --demo`. They were trained by bonesoup's own
pipeline and packed by `bonesoup demo-pack`. Reward weights that each was trained for:

{policies}

A small model that shows how steering works. It is no assistant: it invents facts, and nothing but the objectives above
was measured.
"""


def unpack(say, folder: Path = FOLDER, cache: Path | None = None) -> Source:
    """Read the packed soup and fetch its base unless the cache has it.

    Args:
        say: prints a line for people.
        cache: folder of bases; by default under the user's cache folder.

    Raises:
        ValueError: the demo is not part of this installation, or a file is not as packed.
        ConnectionError: the base cannot be downloaded.
    """
    if not (folder / FACTS).is_file():
        raise ValueError(f"{folder} holds no demo: `bonesoup demo-pack` makes it from a finished run")
    facts = read_json(folder / FACTS)
    for name, expected in facts["files"].items():
        if not (folder / name).is_file() or file_digest(folder / name) != expected:
            raise ValueError(f"{folder / name} is missing or not as packed: install bonesoup again")
    cache = cache or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bonesoup"
    base = _base(Model(**facts["model"]), facts["base"], cache, say)
    soups = {method: replace(Soup.read(folder / f"{method}.json", folder), base=base) for method in facts["methods"]}
    front = folder / FRONT
    return Source(
        name=facts["name"],
        version=None,
        soups=soups | {SFT: base_alone(next(iter(soups.values())))},
        preferences=facts["preferences"],
        default=facts["default"],
        temperature=facts["temperature"],
        max_new_tokens=facts["max_new_tokens"],
        front=read_json(front) if front.is_file() else None,
        place="the demo",
        examples=tuple(facts["examples"]),
    )


def _base(model: Model, expected: str, cache: Path, say) -> Path:
    """Return the folder of the base, made once and checked by the digest of its weights."""
    base = cache / f"base-{expected[:16]}"
    if not base.is_dir():
        say(f"fetching {model.source}, once")
        made, tokenizer, _ = pretrained(model, cache / "models")
        if (digest := _digest(made)) != expected:
            raise ValueError(f"{model.source} became weights of digest {digest}, the demo was made on {expected}")
        with appearing(base) as folder:
            made.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
    return base
