"""The full-size profiles: their sizes against the models' own classes, and the estimate against a small run."""

import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model
from torch.utils.flop_counter import FlopCounterMode

from bonesoup.settings import estimate, profiles
from bonesoup.settings.schema import Estimate

FULL = ["assistant", "assistant-small", "summary"]
# As their config.json states them.
LLAMA_2_7B = transformers.LlamaConfig(
    vocab_size=32000, hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32
)
QWEN3_1_7B = transformers.Qwen3Config(
    vocab_size=151936,
    hidden_size=2048,
    intermediate_size=6144,
    num_hidden_layers=28,
    num_attention_heads=16,
    num_key_value_heads=8,
    head_dim=128,
    tie_word_embeddings=True,
)
GPT2_LARGE = transformers.GPT2Config(n_embd=1280, n_layer=36, n_head=20, num_labels=1)
GPT2 = transformers.GPT2Config(num_labels=1)
BART_BASE = transformers.BartConfig(
    d_model=768,
    encoder_layers=6,
    decoder_layers=6,
    encoder_ffn_dim=3072,
    decoder_ffn_dim=3072,
    encoder_attention_heads=12,
    decoder_attention_heads=12,
    num_labels=2,
)
DISTILBERT = transformers.DistilBertConfig(num_labels=2)
MODELS = {
    "meta-llama/Llama-2-7b-hf": LLAMA_2_7B,
    "Qwen/Qwen3-1.7B-Base": QWEN3_1_7B,
    "Ray2333/gpt2-large-helpful-reward_model": GPT2_LARGE,
    "Ray2333/gpt2-large-harmless-reward_model": GPT2_LARGE,
    "mohameddhiab/humor-no-humor": DISTILBERT,
    "CogComp/bart-faithful-summary-detector": BART_BASE,
    "Tristan/gpt2_reward_summarization": GPT2,
}


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)
    torch.set_num_threads(1)


@pytest.mark.parametrize("name", FULL)
def test_a_full_size_profile_is_valid_but_for_its_commits(name):
    settings = profiles.draft(name)
    assert all(pin.revision is None for pin in settings.pins()), "no commit is invented"
    with pytest.raises(ValueError, match="faults?:") as refused:
        profiles.compose(name)
    faults = str(refused.value).splitlines()[1:]
    assert len(faults) == len(settings.pins())
    for pin, fault in zip(settings.pins(), faults, strict=True):
        assert fault.startswith(f"  - {pin.key}: {pin.repository} is no folder here")
        assert "`bonesoup profile NAME --pin`" in fault


@pytest.mark.parametrize("name", FULL)
def test_settings_that_the_paper_states(name):
    settings = profiles.draft(name)
    assert settings.rl.prompts * settings.rl.generations == 64
    assert settings.generation.temperature == 0.7
    assert settings.generation.max_new_tokens == (48 if name == "summary" else 128)
    if name != "assistant-small":
        assert settings.model.source == "meta-llama/Llama-2-7b-hf"
        assert (settings.rl.lora.rank, settings.rl.lora.alpha) == (64, 128)
        assert (settings.rl.kl, settings.rl.learning_rate, settings.rl.max_grad_norm) == (0.2, 1e-5, 0.5)
        assert settings.seek.betas == [0.6, 0.7, 0.8]


def on_meta(config: transformers.PreTrainedConfig, kind: type) -> transformers.PreTrainedModel:
    with torch.device("meta"):
        return kind.from_config(config)


@pytest.mark.parametrize("name", FULL)
def test_sizes_are_those_of_the_models_own_classes(name):
    settings = profiles.draft(name)
    sizes, config = settings.estimate, MODELS[settings.model.source]
    model = on_meta(config, transformers.AutoModelForCausalLM)
    assert model.num_parameters() == sizes.parameters
    layer = model.model.layers[0]
    assert len(model.model.layers) == sizes.layers
    linear = {n.rpartition(".")[2]: m for n, m in layer.named_modules() if isinstance(m, torch.nn.Linear)}
    assert {n: [m.in_features, m.out_features] for n, m in linear.items()} == sizes.matrices
    assert sizes.kv_width == linear["k_proj"].out_features == linear["v_proj"].out_features
    assert (sizes.hidden, sizes.vocabulary) == (config.hidden_size, config.vocab_size)
    for objective, reward in settings.rewards.items():
        judge = on_meta(MODELS[reward.model], transformers.AutoModelForSequenceClassification)
        assert judge.num_parameters() == sizes.rewards[objective], objective
        assert reward.logit < judge.config.num_labels


SMALL = {"hidden_size": 128, "intermediate_size": 344, "num_attention_heads": 4, "num_key_value_heads": 2}


def small(layers: int = 2) -> tuple[transformers.PreTrainedModel, Estimate]:
    """Return a Llama of the full one's proportions, and the sizes that a profile would state of it."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(vocab_size=64, num_hidden_layers=layers, **SMALL)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    linear = {n: m for n, m in model.model.layers[0].named_modules() if isinstance(m, torch.nn.Linear)}
    machine = {"name": "x", "memory": 1, "tflops": 1, "float32_tflops": 1, "bandwidth": 1}
    return model, Estimate(
        parameters=model.num_parameters(),
        layers=layers,
        hidden=128,
        kv_width=64,
        vocabulary=64,
        matrices={n.rpartition(".")[2]: [m.in_features, m.out_features] for n, m in linear.items()},
        rewards={"a": 1},
        prompt_tokens=1,
        machine=machine,
    )


@pytest.mark.parametrize("targets", [["q_proj", "v_proj"], "all-linear"])
def test_the_adapters_size_is_what_peft_trains(targets):
    model, sizes = small()
    tuned = get_peft_model(model, LoraConfig(r=8, target_modules=targets, task_type="CAUSAL_LM"))
    trained = sum(value.numel() for value in tuned.parameters() if value.requires_grad)
    assert estimate.lora_numbers(sizes, 8, targets) == trained


def test_the_weights_that_multiply_a_token_are_counted_by_pytorch_too():
    model, sizes = small()
    tokens = 8
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(input_ids=torch.zeros(1, tokens, dtype=torch.long))
    # PyTorch also counts attention itself, which is little for texts much shorter than the model is wide.
    assert counter.get_total_flops() == pytest.approx(2 * estimate.used(sizes) * tokens, rel=0.02)


def test_the_cache_has_the_bytes_that_transformers_keeps():
    model, sizes = small()
    with torch.inference_mode():
        cache = model(input_ids=torch.zeros(3, 10, dtype=torch.long), use_cache=True).past_key_values
    kept = sum(t.numel() * t.element_size() for layer in cache.layers for t in (layer.keys, layer.values))
    assert kept == 2 * sizes.layers * sizes.kv_width * 10 * 3 * estimate.BF16


@pytest.mark.parametrize("checkpointing", [False, True])
def test_what_a_layer_keeps_for_its_backward_pass_is_as_the_constants_say(checkpointing):
    rows, tokens = 2, 64

    def kept(layers: int) -> int:
        model = get_peft_model(small(layers)[0], LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
        if checkpointing:
            model.gradient_checkpointing_enable()
            model.enable_input_require_grads()
        weights = {value.untyped_storage().data_ptr() for value in model.parameters()}
        peaks = {}

        def keep(value):
            storage = value.untyped_storage()
            if storage.data_ptr() not in weights:
                peaks[storage.data_ptr()] = (storage.nbytes(), value)  # held, so that no other takes its address
            return value

        model.train()
        with torch.autocast("cpu", torch.bfloat16), torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            model.model.model(input_ids=torch.zeros(rows, tokens, dtype=torch.long))
        return sum(size for size, _ in peaks.values())

    per_layer = (kept(4) - kept(2)) / 2 / (rows * tokens * SMALL["hidden_size"])
    expected = estimate.CHECKPOINT if checkpointing else estimate.KEPT
    assert per_layer == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("name", FULL)
def test_a_profile_fits_the_gpu_it_is_for(name):
    settings = profiles.draft(name)
    figures = estimate.figures(settings)
    assert 0.3 < figures.peak / settings.estimate.machine.memory < 1
    assert figures.sft < settings.estimate.machine.memory
    assert f"{figures.policies} policies" in estimate.report(settings)


def test_mod_is_charged_a_pass_of_every_policy_and_ric_is_said_to_be_left_out():
    slots = {"specialists": {"slots": [f"specialist-{k}" for k in (1, 2, 3)]}}
    backbones = {"backbones": {"slots": [f"backbone-{k}" for k in (1, 2, 3)]}}

    def draft(*methods):
        policies = slots | (backbones if "bone" in methods else {})
        changes = {"methods": ["sft", "rewarded", *methods], "oracles": [], "policies": policies}
        changes["register.method"] = "bone" if "bone" in methods else "rewarded"
        return profiles.draft("assistant", changes=changes)

    def front(*methods):
        return estimate.figures(draft(*methods)).hours["front"]

    assert front("mod") - front() == pytest.approx(3 * (front("bone") - front()))
    assert "RiC's training is not counted." in estimate.report(draft("ric"))
    assert "RiC" not in estimate.report(draft("mod"))


def test_hours_follow_the_steps_and_memory_the_rows():
    def of(**changes):
        return estimate.figures(
            profiles.draft("assistant", changes={k.replace("__", "."): v for k, v in changes.items()})
        )

    one, twice = of(), of(rl__steps=5000)
    assert twice.hours["policies"] == pytest.approx(2 * one.hours["policies"])
    assert twice.memory == one.memory
    wide = of(rl__micro_batch=32)
    assert wide.memory["activations of an update"] == 2 * one.memory["activations of an update"]
    assert wide.hours == one.hours
    # A total that is a tenth of three policies' steps.
    short = of(rl__updates=750)
    assert short.hours["policy, each"] == pytest.approx(one.hours["policy, each"] / 10)
    assert short.hours["probes"] < one.hours["probes"]
    kept = of(hardware__gradient_checkpointing=False)
    assert kept.peak > 80 > one.peak, "it is what makes the profile fit"
    assert kept.hours["policy, each"] < one.hours["policy, each"]
    # Three vertices are specialists' rows, and at beta 1 the backbones are too.
    assert one.policies == 3 + 3 + 3
    assert of(basis__beta=1, seek__betas=[]).policies == 3 + 3


def test_a_step_by_hand():
    """Llama-2-7B, 64 responses of 128 tokens to prompts of 150: each part of the formula on paper."""
    settings = profiles.draft("assistant")
    per_token = 2 * (32 * (4 * 4096**2 + 3 * 4096 * 11008) + 32000 * 4096)
    busy = 0.4 * 312e12
    decode = 128 * ((per_token / 2) * 2 / (0.6 * 2039e9) + 32 * 0.0008)
    prefill = per_token * 150 * 64 / busy
    score = 2 * (2 * 774031360 + 66955010) * 64 * 278 / (0.4 * 19.5e12)
    update = 4 * per_token * 64 * 278 / busy
    hours = 2500 * (decode + prefill + score + update) / 3600
    assert estimate.figures(settings).hours["policy, each"] == pytest.approx(hours, rel=1e-6)


def test_a_tuned_base_costs_no_fine_tuning():
    plain = profiles.draft("assistant-small")
    tuned = plain.model_copy(update={"sft": None})
    with_sft, without = estimate.figures(plain), estimate.figures(tuned)
    assert (without.sft, without.hours["sft"]) == (0, 0)
    assert without.memory == with_sft.memory
    assert {k: v for k, v in without.hours.items() if k != "sft"} == {
        k: v for k, v in with_sft.hours.items() if k != "sft"
    }
    assert "peak of SFT" in estimate.report(plain)
    assert "peak of SFT" not in estimate.report(tuned)


def test_a_profile_without_sizes_is_refused():
    with pytest.raises(ValueError, match="estimate: null"):
        estimate.figures(profiles.draft("embedded"))


def test_the_documented_estimate_is_the_one_that_is_printed(request):
    page = (request.config.rootpath / "docs/full-size.md").read_text()
    assert f"```\n{estimate.report(profiles.draft('assistant-small'))}\n```" in page
    for constant in (estimate.KEPT, estimate.BUSY, estimate.BUSY_BANDWIDTH, estimate.ADAM):
        assert f"{constant:g}".lstrip("0") in page


@pytest.mark.parametrize(
    ("file", "kind", "processes"),
    [
        ("one-gpu", "NO", 1),
        ("several-gpus", "MULTI_GPU", 4),
        ("fsdp", "FSDP", 4),
        ("cpu-two", "MULTI_GPU", 2),
    ],
)
def test_the_files_for_accelerate_are_read_by_it(request, file, kind, processes):
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(request.config.rootpath / f"accelerate/{file}.yaml"))
    assert (config.distributed_type.value, config.num_processes, config.main_process_port) == (kind, processes, 0)
    assert config.mixed_precision == ("no" if file == "cpu-two" else "bf16")
    # The rows of a step divide over the processes in every profile.
    for name in FULL:
        rl = profiles.draft(name).rl
        assert rl.prompts * rl.generations % (rl.micro_batch * processes) == 0
