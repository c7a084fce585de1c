"""Tiny models in the Hub's layout, each with its real config class and a tokenizer of its real kind.

The vocabularies are learned from a few sentences; the weights are random, wide enough that texts differ.
"""

import json
from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

TEXTS = [
    "Please explain how to bake bread at home.",
    "Use flour, water and salt; knead it well, and wait.",
    "My neighbour's dog bit me on Monday and I do not know what to do.",
    "I cannot help with that. Ask a lawyer!",
    "A man walks into a bar.\nHe says: ouch?",
    "Human: Assistant: <|user|> <|assistant|>",
]
WIDTH = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
# As Qwen3's does: an answer at the end of a dialogue is preceded by a thought, here an empty one, and turns end with
# another token than the base model's end token.
THOUGHTFUL = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}{{ m.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def _bpe(pre, special: list[str], alphabet: list[str], size: int) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Learn a BPE from TEXTS; return its vocabulary and merges."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [tuple(pair) for pair in model["merges"]]


def _byte_level(special: list[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    pre = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return _bpe(pre, special, pre_tokenizers.ByteLevel.alphabet(), 400)


def llama_tokenizer() -> transformers.PreTrainedTokenizerBase:
    """Mark spaces in pieces, spell unknown text in bytes; no pad token, no chat template."""
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    return transformers.LlamaTokenizer(*_bpe(pre_tokenizers.Metaspace(split=False), special, [], 420))


def gpt2_tokenizer() -> transformers.PreTrainedTokenizerBase:
    return transformers.GPT2Tokenizer(*_byte_level(["<|endoftext|>"]))


def qwen_tokenizer() -> transformers.PreTrainedTokenizerBase:
    tokenizer = transformers.Qwen2Tokenizer(*_byte_level(["<|endoftext|>"]))
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = THOUGHTFUL
    return tokenizer


def bart_tokenizer() -> transformers.PreTrainedTokenizerBase:
    return transformers.RobertaTokenizer(*_byte_level(["<s>", "<pad>", "</s>", "<unk>", "<mask>"]))


def distilbert_tokenizer() -> transformers.PreTrainedTokenizerBase:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator([text.lower() for text in TEXTS], trainer)
    return transformers.DistilBertTokenizer(tokenizer.get_vocab())


def deberta_tokenizer() -> transformers.PreTrainedTokenizerBase:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]
    trainer = trainers.UnigramTrainer(vocab_size=120, special_tokens=special, unk_token="[UNK]", show_progress=False)
    tokenizer.train_from_iterator(TEXTS * 4, trainer)
    vocabulary = [tuple(entry) for entry in json.loads(tokenizer.to_str())["model"]["vocab"]]
    return transformers.DebertaV2Tokenizer(vocabulary)


def _deberta(version: int) -> Callable:
    """Make DeBERTa v2 or v3, which differ in shared keys, log buckets of relative positions, and vocabulary."""
    v3 = {"position_buckets": 16, "share_att_key": True, "norm_rel_ebd": "layer_norm"} if version == 3 else {}
    return lambda size: transformers.DebertaV2Config(
        vocab_size=size,
        max_position_embeddings=128,
        relative_attention=True,
        pos_att_type=["p2c", "c2p"],
        position_biased_input=False,
        type_vocab_size=0,
        **WIDTH,
        **v3,
    )


POLICIES = {
    "llama": (
        llama_tokenizer,
        lambda size: transformers.LlamaConfig(vocab_size=size, max_position_embeddings=512, **WIDTH),
    ),
    "qwen3": (
        qwen_tokenizer,
        lambda size: transformers.Qwen3Config(
            vocab_size=size,
            max_position_embeddings=512,
            num_key_value_heads=2,
            head_dim=16,
            tie_word_embeddings=True,
            **WIDTH,
        ),
    ),
    "gpt2": (
        gpt2_tokenizer,
        lambda size: transformers.GPT2Config(vocab_size=size, n_positions=512, n_embd=32, n_layer=2, n_head=4),
    ),
}
REWARDS = {
    "gpt2": (gpt2_tokenizer, POLICIES["gpt2"][1], 1),
    "bart": (
        bart_tokenizer,
        lambda size: transformers.BartConfig(
            vocab_size=size,
            max_position_embeddings=256,
            d_model=32,
            encoder_layers=2,
            decoder_layers=2,
            encoder_ffn_dim=48,
            decoder_ffn_dim=48,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            bos_token_id=0,
            pad_token_id=1,
            eos_token_id=2,
            decoder_start_token_id=2,
            # Named, as in the published one: without names BART's own default of three labels comes back on loading.
            id2label={0: "HALLUCINATED", 1: "FAITHFUL"},
        ),
        2,
    ),
    "deberta-v2": (deberta_tokenizer, _deberta(2), 1),
    "deberta-v3": (deberta_tokenizer, _deberta(3), 1),
    "distilbert": (
        distilbert_tokenizer,
        lambda size: transformers.DistilBertConfig(
            vocab_size=size, max_position_embeddings=256, dim=32, hidden_dim=48, n_layers=2, n_heads=4
        ),
        2,
    ),
}


def _saved(kind: type, config, tokenizer, folder: Path, pickled: bool) -> Path:
    torch.manual_seed(0)
    model = kind.from_config(config).eval()
    for value in model.parameters():
        if value.ndim > 1:
            torch.nn.init.normal_(value, std=0.2)
    model.tie_weights()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if pickled:
        # As many older repositories have it.
        (folder / "model.safetensors").unlink()
        torch.save({name: value.clone() for name, value in model.state_dict().items()}, folder / "pytorch_model.bin")
    return folder


def policy(name: str, folder: Path) -> Path:
    tokenizer, config = POLICIES[name][0](), POLICIES[name][1]
    return _saved(transformers.AutoModelForCausalLM, config(len(tokenizer)), tokenizer, folder, False)


def reward(name: str, folder: Path, pickled: bool = False) -> Path:
    make, config, labels = REWARDS[name]
    tokenizer = make()
    settings = config(len(tokenizer))
    if settings.num_labels != labels:
        settings.num_labels = labels
    if settings.pad_token_id is None and tokenizer.pad_token_id is not None:
        settings.pad_token_id = tokenizer.pad_token_id
    return _saved(transformers.AutoModelForSequenceClassification, settings, tokenizer, folder, pickled)
