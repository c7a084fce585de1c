"""The stages base and sft: a pretrained model in any form becomes an ordinary folder, tuned on or passed on."""

import gguf_files
import pytest
import torch
from pinned import default
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer

from bonesoup.files import file_digest, read_json, write_jsonl
from bonesoup.generation.sample import encode, sample
from bonesoup.paths import BASE, METRICS, SFT, SFT_ROWS
from bonesoup.settings import schema
from bonesoup.stages import base, sft

ASK = "{% if add_generation_prompt %}"
# As published: a system prompt of its own; an end-of-turn token that is not the tokenizer's end token; a thought.
TEMPLATES = {
    "smollm": (
        "{% for m in messages %}{% if loop.first and m.role != 'system' %}"
        "{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}{% endif %}"
        "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
        + ASK
        + "{{ '<|im_start|>assistant\n' }}{% endif %}",
        "<|im_end|>",
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n",
    ),
    "gemma": (
        "{{ bos_token }}{% for m in messages %}{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) "
        "+ '\n' + m.content + '<end_of_turn>\n' }}{% endfor %}" + ASK + "{{ '<start_of_turn>model\n' }}{% endif %}",
        "<end_of_turn>",
        "<s><start_of_turn>user\nWhy?<end_of_turn>\n<start_of_turn>model\n",
    ),
    "llama3": (
        "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + m.content "
        "+ '<|eot_id|>' }}{% endfor %}" + ASK + "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
        "<|eot_id|>",
        "<s><|start_header_id|>user<|end_header_id|>\n\nWhy?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    ),
    "qwen3": (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' and loop.last %}"
        "{{ '<think>\n\n</think>\n\n' }}{% endif %}{{ m.content + '<|im_end|>\n' }}{% endfor %}"
        + ASK
        + "{{ '<|im_start|>assistant\n' }}{% if enable_thinking is defined and enable_thinking is false %}"
        "{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}",
        "<|im_end|>",
        "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
    ),
}
MARKS = ["<|im_start|>", "<|im_end|>", "<start_of_turn>", "<end_of_turn>", "<|eot_id|>"]
MARKS += ["<|start_header_id|>", "<|end_header_id|>"]


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    return tmp_path


def chat_model(folder, template: str | None):
    """Save a tiny llama whose tokenizer has marks of every kind, and `</s>` for its end token."""
    vocabulary, merges, made = gguf_files.tokenizer(pre_tokenizers.ByteLevel(add_prefix_space=False))
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", additional_special_tokens=MARKS
    )
    tokenizer.chat_template = template
    model = gguf_files.model("llama", len(tokenizer))
    model.generation_config.update(repetition_penalty=3.0, top_p=0.5, do_sample=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def settings(model: dict, sft: dict | None) -> schema.Settings:
    raw = default()
    raw["model"] |= {"context": 128} | model
    raw["sft"] = sft
    return schema.Settings.model_validate(raw)


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_tuned_model_is_passed_on_with_the_dialogue_it_was_tuned_on(project, name):
    template, end, asked = TEMPLATES[name]
    chat_model(project / "theirs", template)
    wanted = settings({"source": "theirs"}, None)
    base.run(wanted, None)
    sft.run(wanted, None)
    tokenizer = AutoTokenizer.from_pretrained(SFT)
    prompt = [{"role": "user", "content": "Why?"}]
    assert tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True) == asked
    answered = tokenizer.apply_chat_template([*prompt, {"role": "assistant", "content": "So."}], tokenize=False)
    assert answered.startswith(f"{asked}So.{end}")
    assert tokenizer.eos_token == end
    assert tokenizer.pad_token is not None
    ids = encode(tokenizer, [prompt])["input_ids"][0].tolist()
    assert tokenizer(answered, add_special_tokens=False)["input_ids"][: len(ids)] == ids
    # Its weights are the base's, and its sampling defaults are gone.
    assert (SFT / "model.safetensors").samefile(BASE / "model.safetensors")
    model = AutoModelForCausalLM.from_pretrained(SFT).eval()
    assert model.generation_config.repetition_penalty in (None, 1.0)
    responses = sample(model, tokenizer, [prompt] * 64, list(range(64)), 1.0, 12, 64)
    special = {tokenizer.convert_tokens_to_ids(token) for token in [*MARKS, "<s>", "</s>"]} - {tokenizer.eos_token_id}
    assert not special & {token for response in responses for token in response.token_ids}
    assert all(response.finished == (response.token_ids[-1] == tokenizer.eos_token_id) for response in responses)


def test_a_base_without_a_template_has_to_be_tuned(project):
    chat_model(project / "theirs", None)
    base.run(settings({"source": "theirs"}, None), None)
    with pytest.raises(ValueError, match=r"sft: null, but theirs has no chat template that renders"):
        sft.run(settings({"source": "theirs"}, None), None)
    prompt = [{"role": "user", "content": "Why?"}]
    rows = [{"id": str(k), "split": "train", "prompt": prompt, "response": "So."} for k in range(4)]
    write_jsonl(SFT_ROWS, [*rows, rows[0] | {"split": "validation"}])
    sft.run(settings({"source": "theirs"}, {"steps": 1, "batch": 2, "learning_rate": 0.001}), None)
    assert read_json(METRICS / "sft.json")["rows"] == 4


def test_a_gguf_file_is_pinned_by_its_digest(project):
    vocabulary, merges, _ = gguf_files.tokenizer(pre_tokenizers.ByteLevel(add_prefix_space=False))
    gguf_files.write(project / "m.gguf", gguf_files.model("llama", len(vocabulary)), vocabulary, merges, "gpt-2")
    digest = file_digest(project / "m.gguf")
    base.run(settings({"source": "m.gguf", "sha256": digest, "dtype": "bfloat16"}, None), None)
    assert AutoModelForCausalLM.from_pretrained(BASE).dtype == torch.bfloat16
    assert read_json(BASE / "base.json") == {"source": "m.gguf", "pin": digest, "own_chat_template": True}
    with pytest.raises(ValueError, match=rf"m\.gguf: its SHA-256 is {digest}, model\.sha256 expects 0000"):
        base.run(settings({"source": "m.gguf", "sha256": "0" * 64}, None), None)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("m.gguf", r"model\.sha256: missing; `pip hash` prints that of m\.gguf"),
        ("pypi:tiny==1.0", r"model\.sha256: missing; `pip hash` prints that of the wheel"),
        ("pypi:tiny", "model.source: pypi:tiny must name one version"),
    ],
)
def test_what_is_packaged_needs_a_version_and_a_digest(source, reason):
    with pytest.raises(ValueError, match=reason):
        schema.Model(source=source)
