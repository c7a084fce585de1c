"""Folding an adapter into a base: logits as through PEFT, files carried over, refusals by name."""

import json
import subprocess
import sys

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from bonesoup.weights import stream
from bonesoup.weights.adapter_files import load
from bonesoup.weights.adapters import Adapter
from bonesoup.weights.fold import fold

IDS = torch.arange(16).reshape(2, 8)
# Tied heads are tested on purpose.
pytestmark = pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings")

COMMON = {"vocab_size": 32, "bos_token_id": 0, "eos_token_id": 1, "initializer_range": 0.3}


def make(kind, folder, **saving):
    torch.manual_seed(0)
    if kind == "gpt2":
        model = GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=1, n_head=2, n_positions=16, **COMMON))
    else:
        model = LlamaForCausalLM(
            LlamaConfig(
                hidden_size=16,
                intermediate_size=24,
                num_hidden_layers=2,
                num_attention_heads=2,
                tie_word_embeddings=kind == "tied",
                **COMMON,
            )
        )
    model.save_pretrained(folder, **saving)
    return folder


def adapt(base, folder, targets):
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32),
        LoraConfig(r=3, lora_alpha=5, target_modules=targets, task_type="CAUSAL_LM"),
    )
    generator = torch.Generator().manual_seed(1)
    for name, weight in model.named_parameters():
        if "lora_" in name:
            weight.data = torch.randn(weight.shape, generator=generator) * 0.2
    # PEFT would add a whole copy of the head to the adapter, which `load` refuses.
    model.save_pretrained(folder, save_embedding_layers=False)
    return folder


@torch.no_grad()
def logits(model):
    return model.eval()(IDS).logits


def check(base, adapter, out):
    """Check that folded weights answer like the base with the adapter attached."""
    fold(base, load(adapter), out)
    expected = logits(PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter))
    assert (expected - logits(AutoModelForCausalLM.from_pretrained(base))).abs().max() > 0.1
    torch.testing.assert_close(logits(AutoModelForCausalLM.from_pretrained(out)), expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("kind", "targets"),
    [
        ("llama", ["q_proj", "down_proj"]),
        ("llama", ["lm_head"]),
        (
            "gpt2",
            ["c_attn", "c_proj"],
        ),  # c_proj is square: only the module's type tells that it is transposed
        ("gpt2", ["c_attn", "lm_head"]),
        ("tied", ["q_proj", "up_proj"]),
        ("tied", ["lm_head", "q_proj"]),
    ],
)
def test_folded_weights_answer_as_the_adapter_does(tmp_path, kind, targets):
    base = make(kind, tmp_path / "base")
    check(base, adapt(base, tmp_path / "adapter", targets), tmp_path / "out")


@pytest.mark.parametrize("piece", [4, 20, 100])
@pytest.mark.parametrize(
    ("kind", "targets"), [("llama", ["q_proj", "down_proj"]), ("gpt2", ["c_attn", "c_proj"]), ("tied", ["lm_head"])]
)
def test_pieces_may_end_anywhere_in_a_row(tmp_path, monkeypatch, kind, targets, piece):
    monkeypatch.setattr(stream, "PIECE", piece)
    base = make(kind, tmp_path / "base")
    check(base, adapt(base, tmp_path / "adapter", targets), tmp_path / "out")


def test_a_base_with_nan_is_refused_by_tensor_and_place(tmp_path):
    base = make("llama", tmp_path / "base")
    adapter = load(adapt(base, tmp_path / "adapter", ["q_proj"]))
    tensors = load_file(base / "model.safetensors")
    tensors["model.layers.1.self_attn.q_proj.weight"][3, 5] = float("nan")
    save_file(tensors, base / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"tensor model\.layers\.1\.self_attn\.q_proj\.weight has NaN at \[3, 5\]"):
        fold(base, adapter, tmp_path / "out")
    assert not (tmp_path / "out").exists()


FOLD = """
import os, resource
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])  # every core has buffers of its own
from pathlib import Path
from bonesoup.weights.adapter_files import load
from bonesoup.weights.fold import fold
adapter = load(Path("adapter"))
fold(Path("small"), adapter, Path("warm"))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
fold(Path("base"), adapter, Path("out"))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.slow
def test_folding_holds_no_whole_tensor(tmp_path):
    """A head of 200 MB (a tenth of it in the other base, which warms up), and what the process grows by."""
    shape = {"hidden_size": 1024, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    for name, vocabulary in (("small", 10_000), ("base", 100_000)):
        with torch.device("meta"):
            model = LlamaForCausalLM(LlamaConfig(**shape, vocab_size=vocabulary, tie_word_embeddings=True))
        tensors = {key: torch.zeros(t.shape, dtype=torch.bfloat16) for key, t in model.state_dict().items()}
        del tensors["lm_head.weight"]
        (tmp_path / name).mkdir()
        model.config.architectures = ["LlamaForCausalLM"]
        model.config.save_pretrained(tmp_path / name)
        save_file(tensors, tmp_path / name / "model.safetensors", {"format": "pt"})
    adapt(tmp_path / "small", tmp_path / "adapter", ["q_proj", "down_proj"])
    done = subprocess.run([sys.executable, "-c", FOLD], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 50
    size = (tmp_path / "base/model.safetensors").stat().st_size
    assert (tmp_path / "out/model.safetensors").stat().st_size == size > 200e6


def test_ties_stay_where_the_head_is_not_changed(tmp_path):
    base = make("tied", tmp_path / "base")
    fold(base, load(adapt(base, tmp_path / "adapter", ["q_proj"])), tmp_path / "out")
    assert set(load_file(tmp_path / "out" / "model.safetensors")) == set(load_file(base / "model.safetensors"))
    assert json.loads((tmp_path / "out" / "config.json").read_text())["tie_word_embeddings"] is True


def test_a_changed_head_is_untied_from_the_embeddings(tmp_path):
    base = make("tied", tmp_path / "base")
    adapter = load(adapt(base, tmp_path / "adapter", ["lm_head"]))
    fold(base, adapter, tmp_path / "out")
    after = load_file(tmp_path / "out" / "model.safetensors")
    embeddings = load_file(base / "model.safetensors")["model.embed_tokens.weight"]
    assert torch.equal(after["model.embed_tokens.weight"], embeddings)
    assert torch.equal(after["lm_head.weight"], embeddings + adapter.delta("lm_head"))
    assert json.loads((tmp_path / "out" / "config.json").read_text())["tie_word_embeddings"] is False


@pytest.mark.parametrize("targets", [["q_proj", "down_proj"], ["lm_head"]])
@pytest.mark.parametrize("kind", ["llama", "tied"])
def test_sharded_bases(tmp_path, kind, targets):
    base = make(kind, tmp_path / "base", max_shard_size="5KB")
    assert len(list(base.glob("*.safetensors"))) > 1
    check(base, adapt(base, tmp_path / "adapter", targets), tmp_path / "out")


def test_checkpoints_of_the_bare_body(tmp_path):
    """The files of gpt2 on the Hub have no `transformer.` before their names."""
    base = make("gpt2", tmp_path / "base")
    tensors = load_file(base / "model.safetensors")
    save_file(
        {k.removeprefix("transformer."): v for k, v in tensors.items()},
        base / "model.safetensors",
        {"format": "pt"},
    )
    check(base, adapt(base, tmp_path / "adapter", ["c_attn", "lm_head"]), tmp_path / "out")


def test_untouched_tensors_are_the_same_bits_and_the_dtype_stays(tmp_path):
    base = make("llama", tmp_path / "base")
    AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16).save_pretrained(base)
    adapter = load(adapt(base, tmp_path / "adapter", ["q_proj"]))
    fold(base, adapter, tmp_path / "out")
    before, after = (load_file(folder / "model.safetensors") for folder in (base, tmp_path / "out"))
    assert set(before) == set(after)
    for key in before:
        assert after[key].dtype == torch.bfloat16
        module = key.removesuffix(".weight")
        if module in adapter.tensors:
            expected = (before[key].float() + adapter.delta(module)).bfloat16()
            assert torch.equal(after[key], expected)
        else:
            assert torch.equal(after[key], before[key])


def test_tokenizer_and_settings_are_carried_over(tmp_path):
    base = make("llama", tmp_path / "base")
    words = Tokenizer(WordLevel({"<unk>": 0, "hello": 1}, unk_token="<unk>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>")
    tokenizer.chat_template = "{{ messages[0].content }}"
    tokenizer.save_pretrained(base)
    (base / "README.md").write_text("about the base")
    (base / "training_args.bin").write_bytes(b"x")
    fold(base, load(adapt(base, tmp_path / "adapter", ["q_proj"])), tmp_path / "out")
    again = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert again.chat_template == tokenizer.chat_template
    assert again.get_vocab() == tokenizer.get_vocab()
    for name in ("generation_config.json", "tokenizer.json"):
        assert (tmp_path / "out" / name).read_bytes() == (base / name).read_bytes()
    assert not {"README.md", "training_args.bin"} & {p.name for p in (tmp_path / "out").iterdir()}
    assert {p.name for p in tmp_path.iterdir()} == {"base", "adapter", "out"}, "a temporary was left behind"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return make("llama", tmp_path_factory.mktemp("refusals") / "base")


def one(module, a, b):
    return Adapter({"peft_type": "LORA"}, {module: (torch.ones(a), torch.ones(b))}, {module: 1.0})


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        (
            one("model.layers.7.self_attn.q_proj", (2, 16), (16, 2)),
            r"layers\.7\.self_attn\.q_proj.*does not have",
        ),
        (
            one("model.layers.0.self_attn.q_proj", (2, 8), (16, 2)),
            r"layers\.0\.self_attn\.q_proj.*\[16, 8\].*\[16, 16\]",
        ),
        (one("model.embed_tokens", (2, 32), (16, 2)), r"embed_tokens, a Embedding"),
    ],
)
def test_adapters_of_another_model_are_refused_by_module(base, tmp_path, adapter, message):
    with pytest.raises(ValueError, match=message):
        fold(base, adapter, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_bases_that_cannot_be_read_are_refused(tmp_path):
    adapter = one("model.layers.0.self_attn.q_proj", (2, 16), (16, 2))
    with pytest.raises(ValueError, match="has neither"):
        fold(tmp_path, adapter, tmp_path / "out")
    base = make("llama", tmp_path / "base")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"quantization_config": {"load_in_4bit": True}}))
    with pytest.raises(ValueError, match="quantised"):
        fold(base, adapter, tmp_path / "out")
    (base / "config.json").write_text(json.dumps(config | {"architectures": ["NoSuchModel"]}))
    with pytest.raises(ValueError, match="NoSuchModel"):
        fold(base, adapter, tmp_path / "out")
    (base / "config.json").write_text(json.dumps(config))
    data = (base / "model.safetensors").read_bytes()
    (base / "model.safetensors").write_bytes(data[:-100])
    with pytest.raises(ValueError, match="model.safetensors.*truncated"):
        fold(base, adapter, tmp_path / "out")
