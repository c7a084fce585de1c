"""Merging checkpoints: against dense arithmetic in float64, whatever the layout, the dtype and the coefficients."""

import hashlib
import json
import os
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import IDS, folder_of, llama, tensors_of
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from bonesoup.weights import arithmetic, merge, stream

HALF_UNIT = {torch.float32: 2**-24, torch.bfloat16: 2**-8, torch.float16: 2**-11}


def dense(models, base=None):
    """Sum each tensor in float64; return the sum, and a bound on what float32 may lose on the way."""
    loaded = [(tensors_of(path), coefficient) for path, coefficient in models]
    origin = tensors_of(base) if base else None
    sums = {}
    for name in loaded[0][0]:
        zero = origin[name].double() if base else torch.zeros_like(loaded[0][0][name], dtype=torch.float64)
        terms = [coefficient * (tensors[name].double() - zero) for tensors, coefficient in loaded]
        bound = sum(t.abs() for t in terms) + sum(abs(c) * zero.abs() for _, c in loaded) + zero.abs()
        sums[name] = zero + sum(terms), bound * 2**-23 * (len(terms) + 2)
    return sums


def check(out, models, base=None):
    """Check that `out` is the dense sum, rounded once."""
    expected, written = dense(models, base), tensors_of(out)
    assert set(written) == set(expected)
    for name, (value, bound) in expected.items():
        error = (written[name].double() - value).abs()
        # The smallest float16 that is not 0 is 2^-24.
        rounding = HALF_UNIT[written[name].dtype] * (value.abs() + bound) + 2**-25
        assert (error <= bound + rounding).all(), (name, float(error.max()))


def random_tensors(seed, shapes, dtype):
    generator = torch.Generator().manual_seed(seed)
    return {f"t{i}": torch.randn(shape, generator=generator).to(dtype) for i, shape in enumerate(shapes)}


@st.composite
def merges(draw):
    shapes = draw(st.lists(st.lists(st.integers(0, 7), max_size=3), min_size=1, max_size=4))
    dtypes = st.sampled_from(list(HALF_UNIT))
    coefficients = draw(st.lists(st.floats(-3, 3, width=32), min_size=1, max_size=4))
    return (
        [tuple(shape) for shape in shapes],
        [(coefficient, draw(dtypes)) for coefficient in coefficients],
        draw(st.none() | dtypes),  # of the base
        draw(dtypes),  # of the output
        draw(st.integers(1, 300)),  # bytes of a shard
    )


@given(merges())
@settings(max_examples=60, deadline=None)
def test_a_merge_is_the_dense_sum_rounded_once(drawn):
    shapes, parts, base_dtype, dtype, shard = drawn
    with tempfile.TemporaryDirectory() as root, pytest.MonkeyPatch.context() as patch:
        # Pieces of 6 to 3 elements and blocks of 5: every border occurs.
        patch.setattr(stream, "PIECE", 12)
        patch.setattr(arithmetic, "BLOCK", 5)
        root = Path(root)
        models = [
            (folder_of(root / str(i), random_tensors(i, shapes, kind)), coefficient)
            for i, (coefficient, kind) in enumerate(parts)
        ]
        base = folder_of(root / "base", random_tensors(9, shapes, base_dtype)) if base_dtype else None
        name = str(dtype).removeprefix("torch.")
        merge(models, root / "out", base, dtype=name, allow_sum=True, shard_size=shard)
        check(root / "out", models, base)
        assert {t.dtype for t in tensors_of(root / "out").values()} == {dtype}
        assert json.loads((root / "out/config.json").read_text())["dtype"] == name


@pytest.mark.parametrize("dtype", list(HALF_UNIT))
@pytest.mark.parametrize("shard", ["5GB", "5KB"])
@pytest.mark.parametrize("tied", [True, False])
def test_transformers_loads_the_sum_of_the_models(tmp_path, dtype, shard, tied):
    """Inputs in one file and in several; the output in several: the same weights, and the logits of the dense sum."""
    a = llama(tmp_path / "a", 1, dtype, tie_word_embeddings=tied)
    b = llama(tmp_path / "b", 2, dtype, shard, tie_word_embeddings=tied)
    merge([(a, 1.75), (b, -0.75)], tmp_path / "out", shard_size=5000)
    assert len(list((tmp_path / "out").glob("model-0*.safetensors"))) > 1
    check(tmp_path / "out", [(a, 1.75), (b, -0.75)])
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert merged.dtype == dtype
    reference = AutoModelForCausalLM.from_pretrained(a, dtype=torch.float32)
    other = AutoModelForCausalLM.from_pretrained(b, dtype=torch.float32).state_dict()
    for name, weight in reference.named_parameters():
        weight.data.copy_((1.75 * weight - 0.75 * other[name]).to(dtype))
    with torch.no_grad():
        expected, logits = reference(IDS).logits, merged.float()(IDS).logits
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)


def test_the_layout_of_the_inputs_makes_no_difference(tmp_path):
    """Shards against one file, and another order of the tensors: the same bytes."""
    one, other = llama(tmp_path / "one", 1), llama(tmp_path / "other", 2)
    sharded = llama(tmp_path / "sharded", 2, shard="5KB")
    backwards = tmp_path / "backwards"
    tensors = dict(sorted(tensors_of(other).items(), reverse=True))
    folder_of(backwards, tensors)
    (backwards / "config.json").write_bytes((other / "config.json").read_bytes())
    digests = set()
    for second in (other, sharded, backwards):
        merge([(one, 0.5), (second, 0.5)], tmp_path / f"with-{second.name}")
        digests.add(hashlib.sha256((tmp_path / f"with-{second.name}/model.safetensors").read_bytes()).hexdigest())
    assert len(digests) == 1


def test_a_merge_with_a_base_leaves_what_nobody_changed_as_it_was(tmp_path):
    base = random_tensors(0, [(40,), (3, 5)], torch.bfloat16)
    changed = base | {"t1": base["t1"] + 1}
    models = [(folder_of(tmp_path / "a", changed), 0.3), (folder_of(tmp_path / "b", base), 17.5)]
    merge(models, tmp_path / "out", folder_of(tmp_path / "base", base))
    written = tensors_of(tmp_path / "out")
    assert torch.equal(written["t0"], base["t0"])
    assert not torch.equal(written["t1"], base["t1"])


def test_one_model_at_coefficient_one_is_copied_bit_for_bit(tmp_path):
    tensors = random_tensors(0, [(5, 6)], torch.bfloat16) | random_tensors(1, [(2, 1), (4,)], torch.float16)
    merge([(folder_of(tmp_path / "a", tensors), 1)], tmp_path / "out")
    for name, tensor in tensors_of(tmp_path / "out").items():
        assert tensor.dtype == tensors[name].dtype
        assert torch.equal(tensor, tensors[name])


def test_tensors_that_are_no_floats_are_carried_over_where_they_agree(tmp_path):
    rest = {"mask": torch.tensor([True, False, True]), "count": torch.tensor(7), "ids": torch.arange(5)}
    a = folder_of(tmp_path / "a", {"w": torch.ones(3)} | rest)
    b = folder_of(tmp_path / "b", {"w": torch.zeros(3)} | rest)
    merge([(a, 0.5), (b, 0.5)], tmp_path / "out", dtype="bfloat16")
    written = tensors_of(tmp_path / "out")
    assert written["w"].tolist() == [0.5] * 3
    assert written["w"].dtype == torch.bfloat16
    assert all(torch.equal(written[name], rest[name]) for name in rest)


def test_a_copy_of_tied_weights_in_one_file_is_left_out(tmp_path):
    a, b = (llama(tmp_path / name, seed, tie_word_embeddings=True) for seed, name in enumerate("ab"))
    tensors = tensors_of(b)
    assert "lm_head.weight" not in tensors
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, b / "model.safetensors", metadata={"format": "pt"})
    merge([(a, 0.5), (b, 0.5)], tmp_path / "out")
    assert set(tensors_of(tmp_path / "out")) == set(tensors_of(a))
    tensors["lm_head.weight"][3, 3] += 1
    save_file(tensors, b / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lm_head\.weight \[32, 16\]"):
        merge([(a, 0.5), (b, 0.5)], tmp_path / "again")


def test_settings_tokenizer_card_and_manifest(tmp_path):
    words = Tokenizer(WordLevel({"<unk>": 0, "hello": 1}, unk_token="<unk>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>")
    tokenizer.chat_template = "{{ messages[0].content }}"
    a, b = llama(tmp_path / "a", 1), llama(tmp_path / "b", 2)
    tokenizer.save_pretrained(a)
    (a / "README.md").write_text("about a")
    (a / "optimizer.pt").write_bytes(b"x")
    merge([(a, 1.25), (b, -0.25)], tmp_path / "out", dtype="bfloat16")
    out = tmp_path / "out"
    assert AutoTokenizer.from_pretrained(out).chat_template == tokenizer.chat_template
    for name in ("generation_config.json", "tokenizer.json"):
        assert (out / name).read_bytes() == (a / name).read_bytes()
    assert json.loads((out / "config.json").read_text())["dtype"] == "bfloat16"
    card = (out / "README.md").read_text()
    assert f"| `{a}` | 1.25 |" in card
    assert f"bonesoup merge --model={a}=1.25 --model={b}=-0.25 --dtype=bfloat16 --out={out}" in card
    manifest = json.loads((out / "merge.json").read_text())
    assert manifest["models"] == [{"path": str(a), "coefficient": 1.25}, {"path": str(b), "coefficient": -0.25}]
    present = {p.name: p.read_bytes() for p in out.iterdir() if p.name != "merge.json"}
    assert "optimizer.pt" not in present
    assert manifest["files"] == {
        name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in sorted(present.items())
    }
    assert {p.name for p in tmp_path.iterdir()} == {"a", "b", "out"}, "something was left behind"


def test_a_merge_of_a_merge_has_its_own_card_and_manifest(tmp_path):
    a, b = llama(tmp_path / "a", 1), llama(tmp_path / "b", 2)
    merge([(a, 0.5), (b, 0.5)], tmp_path / "half")
    merge([(tmp_path / "half", 2.0), (a, -1.0)], tmp_path / "out")
    assert json.loads((tmp_path / "out/merge.json").read_text())["models"][0]["coefficient"] == 2.0
    for name, tensor in tensors_of(tmp_path / "out").items():
        torch.testing.assert_close(tensor, tensors_of(b)[name], atol=1e-6, rtol=1e-5)


def test_progress_goes_from_nothing_to_everything(tmp_path, monkeypatch):
    monkeypatch.setattr(stream, "PIECE", 256)
    seen = []
    merge([(llama(tmp_path / "a"), 1)], tmp_path / "out", progress=lambda done, total: seen.append((done, total)))
    size = (tmp_path / "out/model.safetensors").stat().st_size
    assert seen[-1] == (size, size)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert len(seen) > 20


def test_memory_does_not_grow_with_the_tensors(tmp_path):
    """The peak allocation of a merge is far below the size of a tensor in float32."""
    tensors = {"w": torch.ones(16, 1 << 20, dtype=torch.bfloat16)}
    models = [(folder_of(tmp_path / name, tensors), 0.5) for name in "ab"]
    tracemalloc.start()
    try:
        merge(models, tmp_path / "out")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    workers = 2 * min(len(os.sched_getaffinity(0)), stream.THREADS)
    assert peak < workers * stream.PIECE + (workers + 1) * 4 * arithmetic.BLOCK * np.dtype(np.float32).itemsize + 2e6
    assert float(tensors_of(tmp_path / "out")["w"].float().mean()) == 1.0
