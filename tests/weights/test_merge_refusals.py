"""Merges are refused by name, with the values of both sides, and leave nothing behind."""

import json

import pytest
import torch
from checkpoints import folder_of, llama, tensors_of
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import BPE, WordLevel

from bonesoup.weights import merge

W = {"w": torch.arange(6.0).reshape(2, 3)}


@pytest.fixture
def refused(tmp_path):
    """Return refused(models, message, ...): the merge raises ValueError with the message and leaves no file."""

    def check(models, message, **options):
        before = {path.name for path in tmp_path.iterdir()}
        with pytest.raises(ValueError, match=message):
            merge(models, tmp_path / "out", **options)
        assert {path.name for path in tmp_path.iterdir()} == before

    return check


def settings(folder, **changes):
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_requests_that_make_no_sense(tmp_path, refused):
    a, b = folder_of(tmp_path / "a", W), folder_of(tmp_path / "b", W)
    refused([], "at least one model")
    refused([(a, float("nan"))], r"coefficient of .*/a is nan")
    refused([(a, float("inf")), (b, 0)], r"coefficient of .*/a is inf")
    refused([(a, 0.5), (b, 0.4)], r"sum to 0\.9, .*--allow-sum")
    refused([(a, 0.5), (b, 0.5)], "dtype is 'float64', expected one of float32, bfloat16, float16", dtype="float64")
    refused([(a, 0.5), (b, 0.5)], "shard size is 0", shard_size=0)
    refused([(tmp_path / "nowhere", 1)], r"nowhere/config\.json does not exist")


def test_coefficients_that_sum_to_one_up_to_rounding_pass(tmp_path):
    merge([(folder_of(tmp_path / str(i), W), 0.1) for i in range(10)], tmp_path / "out")
    merge([(tmp_path / "0", 0.7), (tmp_path / "1", 0.5)], tmp_path / "more", base=tmp_path / "2")
    merge([(tmp_path / "0", 0.7), (tmp_path / "1", 0.5)], tmp_path / "sum", allow_sum=True)
    torch.testing.assert_close(tensors_of(tmp_path / "sum")["w"], 1.2 * W["w"])


def test_an_output_that_is_an_input_or_is_there(tmp_path):
    a, b = folder_of(tmp_path / "a", W), folder_of(tmp_path / "b", W)
    (tmp_path / "link").symlink_to(b)
    for out in (b, tmp_path / "link", tmp_path / "a/../b"):
        with pytest.raises(ValueError, match="is an input and the output"):
            merge([(a, 0.5), (b, 0.5)], out)
    with pytest.raises(ValueError, match="is an input and the output"):
        merge([(a, 1)], b, base=b)
    (tmp_path / "there").mkdir()
    for target in ("there", "nowhere"):
        (tmp_path / "pointer").symlink_to(tmp_path / target)
        with pytest.raises(ValueError, match="pointer exists already"):
            merge([(a, 1)], tmp_path / "pointer")
        (tmp_path / "pointer").unlink()
    merge([(a, 1)], tmp_path / "there")
    with pytest.raises(ValueError, match="there exists already"):
        merge([(a, 1)], tmp_path / "there")


def test_architectures_by_the_setting_that_differs(tmp_path, refused):
    a = llama(tmp_path / "a")
    models = [(a, 0.5), (settings(llama(tmp_path / "b"), num_attention_heads=4), 0.5)]
    refused(models, r"architectures differ.*\n  num_attention_heads: 2 in .*/a/config\.json, 4 in .*/b/config\.json")
    models[1] = (settings(llama(tmp_path / "c"), model_type="mistral", architectures=["MistralForCausalLM"]), 0.5)
    refused(models, r'architectures: \["LlamaForCausalLM"\] in .*/a/.*, \["MistralForCausalLM"\] in .*/c/')
    models[1] = (settings(llama(tmp_path / "d"), rope_parameters={"rope_type": "default", "rope_theta": 5e5}), 0.5)
    refused(models, "rope_parameters")
    refused([(a, 0.5), (llama(tmp_path / "e", tie_word_embeddings=True), 0.5)], "tie_word_embeddings: false in")


def test_settings_that_change_nothing_or_are_the_default_may_differ(tmp_path):
    a, b = llama(tmp_path / "a"), llama(tmp_path / "b")
    settings(b, transformers_version="4.40.0", use_cache=False, torch_dtype="float32", attention_dropout=0.1)
    config = json.loads((b / "config.json").read_text())
    del config["mlp_bias"], config["hidden_act"]
    (b / "config.json").write_text(json.dumps(config))
    merge([(a, 0.5), (b, 0.5)], tmp_path / "out")


def test_vocabularies(tmp_path, refused):
    models = [(llama(tmp_path / "a"), 0.5), (llama(tmp_path / "b", vocab_size=33), 0.5)]
    refused(models, r"vocabularies differ.*\n  vocab_size: 32 in .*/a/config\.json, 33 in .*/b/config\.json")


def test_tensors_by_name_and_shape(tmp_path, refused):
    a = folder_of(tmp_path / "a", W | {"v": torch.ones(4)})
    b = folder_of(tmp_path / "b", W)
    refused([(a, 0.5), (b, 0.5)], r"/a has tensors that .*/b lacks: v \[4\]")
    refused([(b, 0.5), (a, 0.5)], r"/a has tensors that .*/b lacks: v \[4\]")
    refused([(b, 1)], r"/a has tensors that .*/b lacks: v \[4\]", base=a)
    c = folder_of(tmp_path / "c", {"w": torch.ones(3, 2)})
    refused([(b, 0.5), (c, 0.5)], r"shapes of tensors differ:\n  w: \[2, 3\] in .*/b, \[3, 2\] in .*/c")


def test_mixed_dtypes_must_be_decided(tmp_path, refused):
    a = folder_of(tmp_path / "a", W)
    b = folder_of(tmp_path / "b", {"w": W["w"].bfloat16()})
    refused([(a, 0.5), (b, 0.5)], r"tensor w is float32 in .*/a, bfloat16 in .*/b: choose the dtype .*--dtype")
    refused([(a, 1)], "tensor w is float32", base=b)


def test_other_tensors_must_be_the_same(tmp_path, refused):
    a = folder_of(tmp_path / "a", W | {"ids": torch.arange(3)})
    b = folder_of(tmp_path / "b", W | {"ids": torch.arange(3) + 1})
    refused([(a, 0.5), (b, 0.5)], r"tensor ids is I64 \[3\] in .*/a/.* and I64 \[3\] in .*/b/.*different values")
    refused([(a, 0.5), (b, 0.5)], "If the models are quantised, merge the unquantised ones")


@pytest.mark.parametrize(
    ("dtype", "name"), [(torch.float64, "F64"), (torch.float8_e4m3fn, "F8_E4M3"), (torch.complex64, "C64")]
)
def test_floats_that_are_not_summed(tmp_path, refused, dtype, name):
    """Not even where all models hold the same: carried over, they would lack their coefficient."""
    a, b = (folder_of(tmp_path / folder, {"w": W["w"].to(dtype)}) for folder in "ab")
    refused([(a, 0.5), (b, 0.5)], rf"/a/model\.safetensors: tensor w is {name} \[2, 3\]; only float32, bfloat16")
    refused([(a, 2)], rf"tensor w is {name}", allow_sum=True)
    refused([(folder_of(tmp_path / "c", W), 0.5), (b, 0.5)], rf"/b/model\.safetensors: tensor w is {name}")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_nan_and_infinity_by_file_tensor_and_place(tmp_path, refused, value, dtype):
    a = folder_of(tmp_path / "a", {"v": torch.zeros(5, dtype=dtype), "w": W["w"].to(dtype)})
    bad = W["w"].to(dtype, copy=True)
    bad[1, 2] = value
    b = folder_of(tmp_path / "b", {"v": torch.zeros(5, dtype=dtype), "w": bad})
    kind = "NaN" if value != value else "infinity"
    refused([(a, 0.5), (b, 0.5)], rf"/b/model\.safetensors: tensor w has {kind} at \[1, 2\]")
    refused([(a, 1), (b, 0)], rf"/b/model\.safetensors: tensor w has {kind} at \[1, 2\]")
    refused([(a, 1)], rf"/b/model\.safetensors: tensor w has {kind} at \[1, 2\]", base=b)


def test_sums_that_the_dtype_cannot_hold(tmp_path, refused):
    a = folder_of(tmp_path / "a", {"w": torch.tensor([1.0, 60000.0])})
    refused([(a, 2)], r"tensor w: the sum is 1\.2e\+05, more than float16 holds", dtype="float16", allow_sum=True)
    b = folder_of(tmp_path / "b", {"w": torch.tensor([1.0, 3e38])})
    refused([(b, 2)], "tensor w: the sum is not finite", allow_sum=True)


def test_quantised_models_and_adapters_with_advice(tmp_path, refused):
    a, b = llama(tmp_path / "a"), llama(tmp_path / "b")
    settings(b, quantization_config={"quant_method": "bitsandbytes"})
    refused([(a, 0.5), (b, 0.5)], r"/b/config\.json: the model is quantised.* quantise the result")
    (tmp_path / "c").mkdir()
    (tmp_path / "c/adapter_config.json").write_text("{}")
    refused(
        [(a, 0.5), (tmp_path / "c", 0.5)],
        r"/c is the folder of an adapter, .*bonesoup soup --base MODEL --adapter a=.*/c",
    )


def test_an_adapter_next_to_a_models_weights(tmp_path, refused):
    """Transformers would apply it, and a merge of the weights alone would lose it in silence."""
    a, b = llama(tmp_path / "a"), llama(tmp_path / "b")
    (a / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    refused([(a, 0.5), (b, 0.5)], r"/a/adapter_config\.json lies next to a model's weights.*--adapter a=DIR")
    refused([(b, 1)], r"/a/adapter_config\.json lies next to a model's weights", base=a)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_pointers_of_git_lfs_in_place_of_files(tmp_path, refused, name):
    a, b = llama(tmp_path / "a"), llama(tmp_path / "b")
    words(a, {"<unk>": 0, "hello": 1})
    words(b, {"<unk>": 0, "hello": 1})
    (b / name).write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{7:064d}\nsize 4937\n")
    refused([(a, 0.5), (b, 0.5)], rf"/b/{name} is a git-lfs pointer, not the file itself: run `git lfs pull`")


def test_buffers_that_only_old_checkpoints_save_are_left_out(tmp_path):
    old, new = llama(tmp_path / "old"), llama(tmp_path / "new", seed=1)
    tensors = tensors_of(old)
    name = "model.layers.{}.self_attn.rotary_emb.inv_freq"
    save_file(tensors | {name.format(i): torch.ones(4) for i in range(2)}, old / "model.safetensors")
    for first, second, out in ((old, new, "one"), (new, old, "two")):
        left_out = merge([(first, 0.5), (second, 0.5)], tmp_path / out)
        assert left_out == [name.format(0), name.format(1)]
        assert tensors_of(tmp_path / out).keys() == tensors.keys()
        assert name.format(1) in (tmp_path / out / "README.md").read_text()


def test_other_tensors_of_one_model_are_refused_with_a_way_on(tmp_path, refused):
    a, b = llama(tmp_path / "a"), llama(tmp_path / "b")
    save_file(tensors_of(a) | {"v_head.weight": torch.ones(1, 16)}, a / "model.safetensors")
    refused([(a, 0.5), (b, 0.5)], r"/a has tensors that .*/b lacks: v_head\.weight.*save it with save_pretrained")


def words(folder, vocabulary, **parts):
    Tokenizer(WordLevel(vocabulary, unk_token="<unk>")).save(str(folder / "tokenizer.json"))
    content = json.loads((folder / "tokenizer.json").read_text()) | parts
    (folder / "tokenizer.json").write_text(json.dumps(content))


def test_tokenizers_by_content(tmp_path, refused):
    a, b = llama(tmp_path / "a"), llama(tmp_path / "b")
    models = [(a, 0.5), (b, 0.5)]
    words(a, {"<unk>": 0, "hello": 1, "world": 2})
    words(b, {"<unk>": 0, "hello": 2, "world": 1})
    refused(models, r"tokenizers differ in 2 tokens: 'hello' is 1 in .*/a/tokenizer\.json, 2 in .*/b/tokenizer\.json")
    words(b, {"<unk>": 0, "hello": 1})
    refused(models, r"tokenizers differ in 1 tokens: 'world' is 2 in .*/a/.*, absent in")
    words(b, {"<unk>": 0, "hello": 1, "world": 2}, normalizer={"type": "Lowercase"})
    refused(models, r"tokenizers differ in normalizer")
    tokenizer = Tokenizer.from_file(str(a / "tokenizer.json"))
    tokenizer.add_special_tokens([AddedToken("<pad>", special=True)])
    tokenizer.save(str(b / "tokenizer.json"))
    refused(models, r"'<pad>' is absent in .*/a/.*, 3 in .*/b/")
    refused([(a, 1)], r"'<pad>' is absent", base=b)


def test_files_of_one_tokenizer_may_look_different(tmp_path):
    """Another order, padding left on by a run, merges as older files write them."""
    a, b = llama(tmp_path / "a"), llama(tmp_path / "b")
    tokenizer = Tokenizer(BPE({"a": 0, "b": 1, "ab": 2, "<pad>": 3}, [("a", "b")]))
    tokenizer.save(str(a / "tokenizer.json"))
    tokenizer.enable_padding(length=8)
    content = json.loads(tokenizer.to_str())
    content["model"]["vocab"] = dict(reversed(content["model"]["vocab"].items()))
    content["model"]["merges"] = ["a b"]
    del content["model"]["ignore_merges"]
    (b / "tokenizer.json").write_text(json.dumps(content))
    merge([(a, 0.5), (b, 0.5)], tmp_path / "out")
    content["model"]["merges"] = []
    (b / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="tokenizers differ in merges"):
        merge([(a, 0.5), (b, 0.5)], tmp_path / "again")
    (b / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=r"/b/tokenizer\.json is not a tokenizer"):
        merge([(a, 0.5), (b, 0.5)], tmp_path / "again")


def test_vocabularies_without_tokenizer_json(tmp_path, refused):
    a, b = llama(tmp_path / "a"), llama(tmp_path / "b")
    (a / "tokenizer.model").write_bytes(b"one")
    (b / "tokenizer.model").write_bytes(b"two")
    refused([(a, 0.5), (b, 0.5)], r"tokenizers differ: .*/a/tokenizer\.model and .*/b/tokenizer\.model")
    words(a, {"<unk>": 0})
    refused([(a, 0.5), (b, 0.5)], r"tokenizers differ: .*/a/tokenizer\.model and .*/b/tokenizer\.model")
    (b / "tokenizer.model").unlink()
    (a / "vocab.json").write_text('{"x": 0, "y": 1}')
    (b / "vocab.json").write_text('{"y":1,"x":0}')
    merge([(a, 0.5), (b, 0.5)], tmp_path / "merged")
    (b / "vocab.json").write_text('{"x": 1, "y": 0}')
    refused([(a, 0.5), (b, 0.5)], r"tokenizers differ: .*/a/vocab\.json and .*/b/vocab\.json")
    (b / "vocab.json").write_text("{")
    refused([(a, 0.5), (b, 0.5)], r"/b/vocab\.json is not JSON")


def damaged(path, change):
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.__delitem__(slice(-1, None)), r"its tensors end at byte \d+, the file at \d+"),
        (lambda data: data.__delitem__(slice(20, None)), r"its header takes \d+ bytes, the file 20"),
        (lambda data: data.__delitem__(slice(3, None)), "its header takes"),
        (lambda data: data.__setitem__(8, 0), "its header is damaged"),
        (lambda data: data.__setitem__(7, 255), "its header takes"),
        (lambda data: data.__setitem__(slice(0, None), data.replace(b'"F32"', b'"F16"')), "tensor w F16"),
        (lambda data: data.__setitem__(slice(0, None), data.replace(b'"F32"', b'"F99"')), "dtype F99"),
        (lambda data: data.__setitem__(slice(0, None), data.replace(b"[2,3]", b"[2,4]")), r"tensor w F32 \[2, 4\]"),
        (lambda data: data.__setitem__(slice(0, None), data.replace(b"[2,3]", b'["" ]')), "its header is damaged"),
    ],
)
def test_damaged_files(tmp_path, refused, change, message):
    a = folder_of(tmp_path / "a", W)
    damaged(a / "model.safetensors", change)
    refused([(a, 1)], rf"a/model\.safetensors cannot be read, it may be truncated: .*{message}")


def test_indices_that_do_not_fit(tmp_path, refused):
    a = llama(tmp_path / "a", shard="5KB")
    index = a / "model.safetensors.index.json"
    good = json.loads(index.read_text())
    name, file = next(iter(good["weight_map"].items()))
    for weight_map, message in [
        (good["weight_map"] | {"more": file}, f"{file} has no tensor more"),
        (good["weight_map"] | {"more": "absent.safetensors"}, r"absent\.safetensors does not exist"),
        (good["weight_map"] | {"more": "../b/model.safetensors"}, "expected a file name without a folder"),
        ([], "is not an index of weights"),
    ]:
        index.write_text(json.dumps({"weight_map": weight_map}))
        refused([(a, 1)], message)
    index.write_text(json.dumps(good))
    other = next(f for f in set(good["weight_map"].values()) if f != file)
    save_file({name: torch.ones(1)}, a / other)
    refused([(a, 1)], f"tensor {name} is both in")
    (a / "model.safetensors.index.json").unlink()
    refused([(a, 1)], "has neither model.safetensors nor")
