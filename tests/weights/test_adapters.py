"""Soups of adapters against dense arithmetic, PEFT and folded weights, on tiny models built from a config."""

import json

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM
from transformers.pytorch_utils import Conv1D

from bonesoup.files import read_json
from bonesoup.weights.adapter_files import CONFIG, WEIGHTS, load, save
from bonesoup.weights.adapters import Adapter, compress, concatenate
from bonesoup.weights.fold import fold

IDS = torch.arange(24).reshape(2, 12)
BONE = (1.75, -0.75)  # Bone Soup at a vertex, beta 0.7
COMMON = {"vocab_size": 32, "bos_token_id": 0, "eos_token_id": 1}

# One rank_pattern serves both architectures here, so one of its keys is idle in each.
pytestmark = pytest.mark.filterwarnings("ignore:The following .*_pattern keys")


def llama(tied=False):
    return LlamaForCausalLM(
        LlamaConfig(
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=2,
            num_attention_heads=2,
            tie_word_embeddings=tied,
            initializer_range=0.3,
            **COMMON,
        )
    )


def gpt2():
    return GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=16, initializer_range=0.3, **COMMON))


def random_adapter(base, folder, seed, rank, targets, **settings):
    """Have PEFT write an adapter with random A and B."""
    config = LoraConfig(r=rank, target_modules=targets, task_type="CAUSAL_LM", **({"lora_alpha": 6} | settings))
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        if "lora_" in name:
            weight.data = torch.randn(weight.shape, generator=generator) * 0.2
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def world(request, tmp_path_factory):
    """Make a base folder and two adapters of unequal ranks; the second targets other modules too."""
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp(request.param)
    first, second = {
        "llama": (["q_proj", "v_proj"], ["q_proj", "v_proj", "down_proj"]),
        "gpt2": (["c_attn", "c_proj"], ["c_attn", "c_proj", "c_fc"]),
    }[request.param]
    {"llama": llama, "gpt2": gpt2}[request.param]().save_pretrained(root / "base")
    adapters = [
        random_adapter(root / "base", root / "one", 1, 2, first, alpha_pattern={"v_proj": 3}),
        random_adapter(root / "base", root / "two", 2, 3, second, rank_pattern={"q_proj": 5, "c_attn": 5}),
    ]
    return root / "base", adapters


@torch.no_grad()
def logits(model):
    return model.eval()(IDS).logits


def base_model(base):
    return AutoModelForCausalLM.from_pretrained(base)


def dense_soup(base, folders, coefficients):
    """Compute the reference: each adapter's effect measured through PEFT's own merge, summed weight by weight."""
    original = base_model(base).state_dict()
    total = {key: value.clone() for key, value in original.items()}
    for folder, coefficient in zip(folders, coefficients, strict=True):
        merged = PeftModel.from_pretrained(base_model(base), folder).merge_and_unload().state_dict()
        for key in total:
            total[key] += coefficient * (merged[key] - original[key])
    model = base_model(base)
    model.load_state_dict(total)
    return model


def dense(adapter):
    return {module: adapter.delta(module) for module in adapter.tensors}


def close(a, b):
    torch.testing.assert_close(a, b, atol=5e-5, rtol=1e-4)


@pytest.mark.parametrize("coefficients", [BONE, (0.5, 0.5), (0.0, 1.0), (-2.0, 3.0)])
def test_a_soup_is_the_dense_sum(world, tmp_path, coefficients):
    base, folders = world
    soup = concatenate([(load(f), c) for f, c in zip(folders, coefficients, strict=True)])
    save(soup, tmp_path / "soup", str(base))
    expected = logits(dense_soup(base, folders, coefficients))
    assert (expected - logits(base_model(base))).abs().max() > 0.1, "the adapters do nothing: the test is empty"
    close(logits(PeftModel.from_pretrained(base_model(base), tmp_path / "soup")), expected)
    fold(base, soup, tmp_path / "folded")
    close(logits(base_model(tmp_path / "folded")), expected)


def test_a_soup_is_pefts_cat(world):
    base, folders = world
    model = PeftModel.from_pretrained(base_model(base), folders[0], adapter_name="one")
    model.load_adapter(folders[1], adapter_name="two")
    model.add_weighted_adapter(["one", "two"], list(BONE), adapter_name="cat", combination_type="cat")
    soup = dense(concatenate([(load(f), c) for f, c in zip(folders, BONE, strict=True)]))
    for name in soup:
        layer = model.base_model.model.get_submodule(name)
        delta = layer.get_delta_weight("cat")
        close(soup[name], delta.T if layer.fan_in_fan_out else delta)


def test_averaging_the_factors_apart_is_not_the_soup(world):
    base, folders = world
    parts = [load(folders[0]), load(folders[0])]
    generator = torch.Generator().manual_seed(5)
    other = {m: tuple(torch.randn(t.shape, generator=generator) for t in pair) for m, pair in parts[0].tensors.items()}
    parts[1] = Adapter(parts[0].config, other, parts[0].scale)
    apart = {
        m: tuple(sum(c * p.tensors[m][i] for p, c in zip(parts, BONE, strict=True)) for i in (0, 1)) for m in other
    }
    wrong = dense(Adapter(parts[0].config, apart, parts[0].scale))
    right = dense(concatenate(list(zip(parts, BONE, strict=True))))
    for name in right:
        assert (right[name] - wrong[name]).norm() > 0.5 * right[name].norm()


def test_ranks_add_up_and_alpha_is_rank(world, tmp_path):
    base, folders = world
    one, two = map(load, folders)
    soup = concatenate([(one, 1.75), (two, -0.75)])
    for name, (a, b) in soup.tensors.items():
        expected = sum(len(part.tensors[name][0]) for part in (one, two) if name in part.tensors)
        assert len(a) == b.shape[1] == expected
    assert len({len(a) for a, _ in soup.tensors.values()}) > 1
    assert set(soup.scale.values()) == {1.0}
    save(soup, tmp_path / "soup", "somewhere")
    config = json.loads((tmp_path / "soup" / CONFIG).read_text())
    assert config["alpha_pattern"] == config["rank_pattern"]
    assert config["r"] == config["lora_alpha"]
    assert config["base_model_name_or_path"] == "somewhere"


def test_what_is_saved_is_what_is_loaded(world, tmp_path):
    base, folders = world
    for folder in folders:
        adapter = load(folder)
        save(adapter, tmp_path / "copy", str(base))
        again = load(tmp_path / "copy")
        assert again.scale == pytest.approx(adapter.scale)
        for name, pair in adapter.tensors.items():
            assert all(torch.equal(x, y) for x, y in zip(pair, again.tensors[name], strict=True))


def test_the_deltas_are_pefts(world, tmp_path):
    base, folders = world
    rank_stabilised = random_adapter(
        base,
        tmp_path / "rs",
        3,
        4,
        ["q_proj", "c_attn"],
        use_rslora=True,
        rank_pattern={"layers.0.*q_proj": 2},
    )
    for folder in (*folders, rank_stabilised):
        model = PeftModel.from_pretrained(base_model(base), folder)
        for name, delta in dense(load(folder)).items():
            layer = model.base_model.model.get_submodule(name)
            peft_delta = layer.get_delta_weight("default")
            close(delta, peft_delta.T if layer.fan_in_fan_out else peft_delta)


def test_a_soup_of_rank_stabilised_adapters_is_exact(world, tmp_path):
    """PEFT's own cat is not, for these (peft issue 3449)."""
    base, _ = world
    folders = [random_adapter(base, tmp_path / str(k), k, k + 2, ["q_proj", "c_attn"], use_rslora=True) for k in (1, 2)]
    save(concatenate([(load(f), c) for f, c in zip(folders, BONE, strict=True)]), tmp_path / "soup", str(base))
    expected = logits(dense_soup(base, folders, BONE))
    close(logits(PeftModel.from_pretrained(base_model(base), tmp_path / "soup")), expected)


def test_a_compressed_soup_loads_in_peft_at_the_ranks_it_was_given(world, tmp_path):
    base, folders = world
    soup = concatenate([(load(folder), c) for folder, c in zip(folders, BONE, strict=True)])
    small, errors = compress(soup, max_error=0.3)
    assert any(errors.values()), "nothing was compressed"
    save(small, tmp_path / "small", str(base))
    model = PeftModel.from_pretrained(base_model(base), tmp_path / "small").merge_and_unload()
    expected = base_model(base)
    with torch.no_grad():
        for module, delta in dense(small).items():
            weight = expected.get_submodule(module).weight
            weight += delta.T if isinstance(expected.get_submodule(module), Conv1D) else delta
    close(logits(model), logits(expected))


def test_an_exported_soup_is_what_vllm_reads(world, tmp_path):
    """By its source: names of tensors, r, lora_alpha; no patterns, so alpha / r must be every module's scale."""
    base, folders = world
    soup = concatenate([(load(folder), c) for folder, c in zip(folders, BONE, strict=True)])
    for name, adapter in (("whole", soup), ("small", compress(soup, max_error=0.3)[0])):
        save(adapter, tmp_path / name, str(base))
        config = read_json(tmp_path / name / "adapter_config.json")
        tensors = load_file(tmp_path / name / "adapter_model.safetensors")
        ranks = {len(tensor) for key, tensor in tensors.items() if key.endswith(".lora_A.weight")}
        assert config["r"] == config["lora_alpha"] == max(ranks)
        assert set(adapter.scale.values()) == {1.0}
        names = {f"base_model.model.{m}.lora_{f}.weight" for m in adapter.tensors for f in "AB"}
        assert tensors.keys() == names
        assert not {"use_dora", "modules_to_save", "use_rslora"} & {key for key, value in config.items() if value}


# Refusals: one broken adapter each, the message names what is wrong.


@pytest.fixture
def plain(tmp_path):
    torch.manual_seed(0)
    llama().save_pretrained(tmp_path / "base")
    return random_adapter(tmp_path / "base", tmp_path / "adapter", 1, 2, ["q_proj"])


Q = "base_model.model.model.layers.1.self_attn.q_proj"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(f"{Q}.lora_A.weight"), r"layers\.1\.self_attn\.q_proj has no lora_A"),
        (lambda t: t.pop(f"{Q}.lora_B.weight"), r"layers\.1\.self_attn\.q_proj has no lora_B"),
        (lambda t: t[f"{Q}.lora_A.weight"].fill_(float("nan")), r"layers\.1.*lora_A.*not finite"),
        (lambda t: t[f"{Q}.lora_B.weight"][0].fill_(float("inf")), r"layers\.1.*lora_B.*not finite"),
        (lambda t: t.update({f"{Q}.lora_magnitude_vector": torch.ones(16)}), "lora_magnitude_vector"),
        (lambda t: t.update({f"{Q}.bias": torch.ones(16)}), r"q_proj\.bias is not a factor"),
        (lambda t: t.update({f"{Q}.lora_A.second.weight": torch.ones(2, 16)}), r"q_proj has more than one lora_A"),
        (lambda t: t.update({f"{Q}.lora_A.weight": torch.ones(3, 16)}), r"A \[3, 16\].*rank 2"),
        (lambda t: t.update({f"{Q}.lora_A.weight": torch.ones(2, 16, 1)}), r"shape \[2, 16, 1\]"),
        (lambda t: t.clear(), "no tensors"),
    ],
)
def test_broken_tensors_are_refused_by_name(plain, change, message):
    tensors = load_file(plain / WEIGHTS)
    change(tensors)
    save_file(tensors, plain / WEIGHTS)
    with pytest.raises(ValueError, match=f"(?s){WEIGHTS}.*{message}"):
        load(plain)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"lora_bias": True}, "lora_bias"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"bias": "all"}, "bias 'all'"),
        ({"init_lora_weights": "pissa"}, "pissa"),
        ({"peft_type": "IA3"}, "LoRA"),
        ({"r": None}, "r is None, expected a positive number"),
    ],
)
def test_other_kinds_of_adapter_are_refused_by_name(plain, change, message):
    config = json.loads((plain / CONFIG).read_text())
    (plain / CONFIG).write_text(json.dumps(config | change))
    with pytest.raises(ValueError, match=f"{CONFIG}.*{message}"):
        load(plain)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"lora_bias": True}, "lora_bias"),
        ({"bias": "lora_only"}, "bias 'lora_only'"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"trainable_token_indices": [2, 3]}, "trainable_token_indices"),
        ({"layer_replication": [[0, 2], [1, 2]]}, "layer_replication"),
        ({"init_lora_weights": "pissa"}, "'pissa', which changes the base itself"),
        ({"init_lora_weights": "olora"}, "'olora', which changes the base itself"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_what_peft_writes_for_other_kinds_is_refused_by_name(plain, tmp_path, settings, message):
    settings = {"targets": ["q_proj"]} | settings
    folder = random_adapter(tmp_path / "base", tmp_path / "other", 2, 2, **settings)
    with pytest.raises(ValueError, match=message):
        load(folder)


def test_missing_and_truncated_files_are_refused_by_name(plain, tmp_path):
    with pytest.raises(ValueError, match="nowhere.*does not exist"):
        load(tmp_path / "nowhere")
    data = (plain / WEIGHTS).read_bytes()
    (plain / WEIGHTS).write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=f"{WEIGHTS}.*truncated"):
        load(plain)
    (plain / WEIGHTS).unlink()
    with pytest.raises(ValueError, match=f"{WEIGHTS} does not exist"):
        load(plain)
    (plain / CONFIG).write_text("{")
    with pytest.raises(ValueError, match=f"{CONFIG} is not JSON"):
        load(plain)


def test_a_soup_of_strangers_is_refused(plain):
    adapter = load(plain)
    module = next(iter(adapter.tensors))
    stranger = Adapter(adapter.config, {module: (torch.ones(2, 8), torch.ones(8, 2))}, {module: 1.0})
    with pytest.raises(ValueError, match=module):
        concatenate([(adapter, 0.5), (stranger, 0.5)])
    with pytest.raises(ValueError, match="coefficient 1 is nan"):
        concatenate([(adapter, 0.5), (adapter, float("nan"))])
    with pytest.raises(ValueError, match="at least one adapter"):
        concatenate([])
