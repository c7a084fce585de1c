"""Adapters from other tools, mixed on their base: against dense arithmetic in float64 and against PEFT."""

import json
import math
import shutil
from itertools import pairwise
from pathlib import Path

import architectures
import peft
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from bonesoup.generation.mixer import Mixer
from bonesoup.weights import mix, save
from bonesoup.weights.adapter_files import CONFIG, WEIGHTS, load
from bonesoup.weights.fold import fold

IDS = torch.arange(24).reshape(2, 12)
MODULES = [f"model.layers.{i}.{m}" for i in range(2) for m in ("self_attn.q_proj", "mlp.down_proj")]
SHAPES = {"q_proj": (32, 32), "down_proj": (32, 48)}

# Tied heads and embeddings are tested on purpose.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def bases(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("bases")
    for name in ("llama", "qwen2", "gpt2"):
        architectures.base(name).save_pretrained(root / name)
    return {name: root / name for name in ("llama", "qwen2", "gpt2")}


@torch.no_grad()
def logits(folder: Path) -> torch.Tensor:
    return AutoModelForCausalLM.from_pretrained(folder).eval()(IDS).logits


def close(a, b):
    torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def write(folder: Path, seed: int, rank: int, alpha: float, ranks: dict, alphas: dict, rslora: bool, modules) -> dict:
    """Write a folder as PEFT does, by hand; return its deltas in float64."""
    generator = torch.Generator().manual_seed(seed)
    tensors, deltas = {}, {}
    for module in modules:
        kind = module.rpartition(".")[2]
        r, a = ranks.get(kind, rank), alphas.get(kind, alpha)
        out, width = SHAPES[kind]
        down, up = torch.randn(r, width, generator=generator), torch.randn(out, r, generator=generator)
        tensors[f"base_model.model.{module}.lora_A.weight"] = down
        tensors[f"base_model.model.{module}.lora_B.weight"] = up
        deltas[module] = up.double() @ down.double() * a / (math.sqrt(r) if rslora else r)
    folder.mkdir(parents=True)
    save_file(tensors, folder / WEIGHTS)
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": alpha, "rank_pattern": ranks, "alpha_pattern": alphas}
    (folder / CONFIG).write_text(json.dumps(config | {"use_rslora": rslora, "target_modules": list(SHAPES)}))
    return deltas


ADAPTERS = st.lists(
    st.tuples(
        st.integers(1, 5),
        st.floats(0.5, 32),
        st.dictionaries(st.sampled_from(list(SHAPES)), st.integers(1, 5)),
        st.dictionaries(st.sampled_from(list(SHAPES)), st.floats(0.5, 32)),
        st.booleans(),
        st.lists(st.sampled_from(MODULES), min_size=1, unique=True),
    ),
    min_size=1,
    max_size=3,
)


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(ADAPTERS, st.lists(st.floats(-2, 2, width=32), min_size=3, max_size=3))
def test_a_mixture_is_the_dense_sum(bases, tmp_path_factory, adapters, weights):
    """Ranks, alphas, patterns of both, rsLoRA, layers and targets that differ; weights of any sign."""
    root = tmp_path_factory.mktemp("mixed")
    deltas = [write(root / str(i), i, *adapter) for i, adapter in enumerate(adapters)]
    names = [str(i) for i in range(len(adapters))]
    chosen = dict(zip(names, weights, strict=False))
    mixed = mix(bases["llama"], {name: root / name for name in names}, chosen)
    assert mixed.tensors.keys() == {module for part in deltas for module in part}
    for module in mixed.tensors:
        parts = zip(deltas, chosen.values(), strict=True)
        expected = sum(weight * part[module] for part, weight in parts if module in part)
        torch.testing.assert_close(mixed.delta(module).double(), expected, atol=2e-3, rtol=1e-5)
    shutil.rmtree(root)


NAMES = {
    "the adapter's own name": lambda key: key.replace(".weight", ".default.weight"),
    "no prefix": lambda key: key.removeprefix("base_model.model."),
    "torch.compile": lambda key: key.replace("base_model.model.", "base_model.model._orig_mod."),
    "compiled PeftModel": lambda key: f"_orig_mod.{key}",
    "DistributedDataParallel": lambda key: f"module.{key}",
    "FSDP": lambda key: key.replace(".self_attn", "._fsdp_wrapped_module.self_attn"),
    "activation checkpointing": lambda key: key.replace(".mlp", "._checkpoint_wrapped_module.mlp"),
    "the bare body": lambda key: key.replace("model.model.model.", "model.model."),
    "diffusers": lambda key: key.replace("lora_A", "lora.down").replace("lora_B", "lora.up"),
    "kohya": lambda key: key.replace("lora_A", "lora_down").replace("lora_B", "lora_up"),
}


@pytest.mark.parametrize("scheme", NAMES)
def test_names_of_other_tools(bases, tmp_path, scheme):
    deltas = write(tmp_path / "a", 0, 3, 6.0, {}, {}, False, MODULES)
    tensors = load_file(tmp_path / "a" / WEIGHTS)
    renamed = {NAMES[scheme](key): tensor for key, tensor in tensors.items()}
    assert renamed.keys() != tensors.keys()
    save_file(renamed, tmp_path / "a" / WEIGHTS)
    mixed = mix(bases["llama"], {"a": tmp_path / "a"}, {"a": 1.0})
    for module, delta in deltas.items():
        torch.testing.assert_close(mixed.delta(module).double(), delta, atol=1e-4, rtol=1e-5)


def test_alphas_of_their_own_win(bases, tmp_path):
    deltas = write(tmp_path / "a", 0, 2, 2.0, {}, {}, False, MODULES[:1])
    path = tmp_path / "a" / WEIGHTS
    save_file(load_file(path) | {f"base_model.model.{MODULES[0]}.alpha": torch.tensor(6.0)}, path)
    mixed = mix(bases["llama"], {"a": tmp_path / "a"}, {"a": 1.0})
    torch.testing.assert_close(mixed.delta(MODULES[0]).double(), 3 * deltas[MODULES[0]], atol=1e-4, rtol=1e-5)


def trained(base: Path, folder: Path, targets, seed: int = 0, saving: dict | None = None, **options) -> Path:
    """Have PEFT write an adapter with random factors."""
    model = AutoModelForCausalLM.from_pretrained(base)
    tuned = get_peft_model(model, LoraConfig(target_modules=targets, task_type="CAUSAL_LM", **({"r": 2} | options)))
    torch.manual_seed(seed)
    for name, weight in tuned.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.3)
    tuned.save_pretrained(folder, **(saving or {}))
    return folder


KINDS = {
    "llama": ["q_proj", "embed_tokens", "lm_head"],
    "qwen2": ["q_proj", "embed_tokens", "lm_head"],
    "gpt2": ["c_attn", "c_fc", "wte"],
}


@torch.no_grad()
def by_peft(base: Path, folders: list[Path], weights: list[float]) -> torch.Tensor:
    """Compute logits with all adapters active and unmerged, each at its scale times its weight."""
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folders[0], adapter_name="0")
    for i, folder in enumerate(folders[1:], 1):
        model.load_adapter(folder, adapter_name=str(i))
    model.base_model.set_adapter([str(i) for i in range(len(folders))])
    for module in model.modules():
        if isinstance(module, LoraLayer):
            for name in module.scaling:
                module.scaling[name] *= weights[int(name)]
    return model.eval()(IDS).logits


@pytest.mark.parametrize("name", KINDS)
def test_heads_embeddings_and_conv1d_folded_mixed_per_row_and_saved(bases, tmp_path, name):
    """Tied and untied; whole embeddings that PEFT saves with the adapter are taken for what they are: the base's."""
    base, weights = bases[name], [1.4, -0.4]
    folders = [trained(base, tmp_path / str(i), KINDS[name], i, r=2 + i, use_rslora=bool(i)) for i in range(2)]
    assert any("embed" in key or "wte" in key for key in load_file(folders[0] / WEIGHTS))
    expected = by_peft(base, folders, weights)
    assert (expected - logits(base)).abs().max() > 0.1
    adapters = {str(i): folder for i, folder in enumerate(folders)}
    mixed = mix(base, adapters, {"0": 1.4, "1": -0.4})
    fold(base, mixed, tmp_path / "folded")
    close(logits(tmp_path / "folded"), expected)

    live = AutoModelForCausalLM.from_pretrained(base).eval()
    mixer = Mixer(live, [load(folder) for folder in folders])
    mixer.set(torch.tensor([weights, [0.0, 0.0]]))
    rows = live(IDS).logits
    close(rows[0], expected[0])
    close(rows[1], logits(base)[1])
    mixer.fold(torch.tensor(weights))
    close(live(IDS).logits, expected)

    save(mixed, tmp_path / "saved", str(base))
    close(by_peft(base, [tmp_path / "saved"], [1.0]), expected)


def test_peft_merges_a_tied_embedding_into_the_head_too(bases, tmp_path):
    """PEFT's unmerged model does not: `fold` unties the two instead."""
    assert peft.__version__ == "0.21.2", "see whether PEFT still does, and name the version"
    folder = trained(bases["qwen2"], tmp_path / "a", ["embed_tokens"])
    unmerged = by_peft(bases["qwen2"], [folder], [1.0])
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(bases["qwen2"]), folder)
    with torch.no_grad():
        merged = model.merge_and_unload().eval()(IDS).logits
    assert (merged - unmerged).abs().max() > 0.1
    fold(bases["qwen2"], mix(bases["qwen2"], {"a": folder}, {"a": 1.0}), tmp_path / "folded")
    close(logits(tmp_path / "folded"), unmerged)


@pytest.mark.parametrize("way", ["cat", "linear"])
def test_pefts_weighted_adapters_are_not_the_sum_for_rank_stabilised_ones(bases, tmp_path, way):
    """cat divides alpha by the square root of the new rank (peft issue 3449); linear has cross terms for any LoRA."""
    assert peft.__version__ == "0.21.2", "see whether PEFT still does, and name the version"
    base, weights = bases["llama"], [1.4, -0.4]
    folders = [trained(base, tmp_path / str(i), ["q_proj"], i, use_rslora=True) for i in range(2)]
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folders[0], adapter_name="0")
    model.load_adapter(folders[1], adapter_name="1")
    model.add_weighted_adapter(["0", "1"], weights, adapter_name="mixed", combination_type=way)
    mixed = mix(base, {str(i): folder for i, folder in enumerate(folders)}, {"0": 1.4, "1": -0.4})
    module = MODULES[0]
    delta = model.base_model.model.get_submodule(module).get_delta_weight("mixed")
    right = mixed.delta(module)
    assert (delta - right).norm() > 0.1 * right.norm()
    apart = zip(folders, weights, strict=True)
    close(right, sum(weight * load(folder).delta(module) for folder, weight in apart))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"use_dora": True}, "sets use_dora"),
        ({"lora_bias": True}, "sets lora_bias"),
        ({"modules_to_save": ["lm_head"]}, "sets modules_to_save"),
        ({"trainable_token_indices": [1]}, "sets trainable_token_indices"),
        ({"ensure_weight_tying": True}, "sets ensure_weight_tying"),
        ({"a_setting_of_tomorrow": 1}, "sets a_setting_of_tomorrow"),
    ],
)
def test_more_than_plain_lora_is_refused_by_name(bases, tmp_path, change, message):
    write(tmp_path / "a", 0, 2, 2.0, {}, {}, False, MODULES)
    config = json.loads((tmp_path / "a" / CONFIG).read_text())
    (tmp_path / "a" / CONFIG).write_text(json.dumps(config | change))
    with pytest.raises(ValueError, match=message):
        mix(bases["llama"], {"a": tmp_path / "a"}, {"a": 1.0})


def test_another_base_is_noticed(bases, tmp_path):
    """By modules, by shapes, and by the copy of the base's embeddings where the adapter holds one."""
    write(tmp_path / "a", 0, 2, 2.0, {}, {}, False, MODULES)
    with pytest.raises(ValueError, match=r"adapter a changes module model\.layers\.\S+, which \S+gpt2 does not have"):
        mix(bases["gpt2"], {"a": tmp_path / "a"}, {"a": 1.0})
    architectures.base("llama", seed=1).save_pretrained(tmp_path / "other")
    folder = trained(tmp_path / "other", tmp_path / "b", ["q_proj", "embed_tokens"])
    with pytest.raises(ValueError, match=r"adapter b brings its own weights \S+embed_tokens\S+, which differ"):
        mix(bases["llama"], {"b": folder}, {"b": 1.0})
    with pytest.raises(ValueError, match=r"policy 0 brings its own weights \S+embed_tokens\S+, which differ"):
        Mixer(AutoModelForCausalLM.from_pretrained(bases["llama"]), [load(folder)])
    resized = AutoModelForCausalLM.from_pretrained(bases["llama"])
    resized.resize_token_embeddings(99)
    resized.save_pretrained(tmp_path / "resized")
    folder = trained(tmp_path / "resized", tmp_path / "c", ["q_proj"], saving={"save_embedding_layers": True})
    with pytest.raises(ValueError, match=r"brings its own weights .*\[99, 32\], which .*has as \[90, 32\]: its tokens"):
        mix(bases["llama"], {"c": folder}, {"c": 1.0})


def test_names_and_weights_must_match(bases, tmp_path):
    write(tmp_path / "a", 0, 2, 2.0, {}, {}, False, MODULES)
    for weights, message in [
        ({"a": 1.0, "b": 1.0}, "no adapter 'b'; there are: a"),
        ({}, "adapter a has no weight; 0 leaves it out"),
        ({"a": math.inf}, "the weight of a is inf, expected a finite number"),
    ]:
        with pytest.raises(ValueError, match=message):
            mix(bases["llama"], {"a": tmp_path / "a"}, weights)


def test_a_wrong_scale_would_be_seen(bases, tmp_path):
    """The dense reference distinguishes rsLoRA from LoRA, and alphas from each other."""
    scales = [(2, 2.0, False), (2, 2.0, True), (2, 4.0, False)]
    for i, (rank, alpha, rslora) in enumerate(scales):
        write(tmp_path / str(i), 0, rank, alpha, {}, {}, rslora, MODULES[:1])
    deltas = [mix(bases["llama"], {"a": tmp_path / str(i)}, {"a": 1.0}).delta(MODULES[0]) for i in range(3)]
    assert all((a - b).norm() > 0.1 * a.norm() for a, b in pairwise(deltas))
