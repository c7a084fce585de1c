"""Check that checkpoints can be merged: architecture, vocabulary and tokenizer, tensors and their shapes."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bonesoup.weights.arithmetic import FLOATS, same_bytes
from bonesoup.weights.checkpoint import CONFIG, read_config
from bonesoup.weights.tensors import Stored, read_foreign_json, refuse_pointer

TOKENIZER = "tokenizer.json"
# Tokenizers without tokenizer.json.
_VOCABULARIES = ("vocab.json", "merges.txt", "vocab.txt", "added_tokens.json", "spiece.model", "tokenizer.model")
# Differences listed in one message.
_SHOWN = 5

# Settings that do not change the function of the weights: names and versions, training, generation, reporting.
_HARMLESS = {
    "_name_or_path",
    "_commit_hash",
    "_attn_implementation_autoset",
    "transformers_version",
    "dtype",
    "torch_dtype",
    "use_cache",
    "gradient_checkpointing",
    "initializer_range",
    "initializer_factor",
    "attention_dropout",
    "hidden_dropout",
    "embd_pdrop",
    "attn_pdrop",
    "resid_pdrop",
    "summary_first_dropout",
    "dropout",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "task_specific_params",
    "output_attentions",
    "output_hidden_states",
    "return_dict",
    "chunk_size_feed_forward",
    "max_length",
}


def check_configs(folders: Sequence[Path]) -> None:
    """Refuse models of different architectures or vocabularies, by the setting that differs.

    Raises:
        ValueError: also if a folder is quantised or not a Transformers model.
    """
    first, *others = folders
    expected = read_config(first)
    for other in others:
        actual = read_config(other)
        if not _differing(expected, actual):
            continue
        # Either may leave out defaults, or come from a different version of Transformers.
        if actual.get("model_type") == expected.get("model_type"):
            a, b = _completed(first, expected), _completed(other, actual)
        else:
            a, b = expected, actual
        if keys := _differing(a, b):
            keys.sort(key=lambda key: (key not in ("architectures", "model_type"), key != "vocab_size", key))
            what = "vocabularies" if keys[0] == "vocab_size" else "architectures"
            listed = "\n".join(
                f"  {key}: {json.dumps(a.get(key))} in {first / CONFIG}, {json.dumps(b.get(key))} in {other / CONFIG}"
                for key in keys[:_SHOWN]
            )
            raise ValueError(f"the {what} differ, their weights cannot be added:\n{listed}{_more(keys)}")


def _differing(a: dict, b: dict) -> list[str]:
    return [key for key in a.keys() | b.keys() if key not in _HARMLESS and _plain(a.get(key)) != _plain(b.get(key))]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items() if key not in _HARMLESS}
    return value


def _completed(folder: Path, config: dict) -> dict:
    """Return the settings with every default written out; unchanged if Transformers does not know the model."""
    # Rare, and takes a second.
    from transformers import AutoConfig

    try:
        complete = AutoConfig.from_pretrained(folder, trust_remote_code=False).to_dict()
    except (ValueError, OSError, KeyError):
        return config
    return complete | {"architectures": config.get("architectures")}


def check_tokenizers(folders: Sequence[Path]) -> None:
    """Refuse models whose tokenizers differ in content; a folder without a tokenizer is skipped.

    Raises:
        ValueError: naming the part, and a token if the vocabularies differ.
    """
    with_file = [folder for folder in folders if (folder / TOKENIZER).is_file()]
    for other in with_file[1:]:
        paths = (with_file[0] / TOKENIZER, other / TOKENIZER)
        if paths[0].read_bytes() != paths[1].read_bytes():
            _compare_tokenizers(*paths)
    for name in _VOCABULARIES:
        holders = [folder for folder in folders if (folder / name).is_file()]
        for other in holders[1:]:
            # If both have tokenizer.json, only that is read, and it was already compared.
            compared = holders[0] in with_file and other in with_file
            if not compared and _vocabulary(holders[0] / name) != _vocabulary(other / name):
                raise ValueError(f"the tokenizers differ: {holders[0] / name} and {other / name}")


def _vocabulary(path: Path) -> Any:
    if path.suffix == ".json":
        return read_foreign_json(path)
    refuse_pointer(path)
    return path.read_bytes()


def _compare_tokenizers(a: Path, b: Path) -> None:
    (first_ids, first), (second_ids, second) = _tokenizer(a), _tokenizer(b)
    tokens = [token for token in first_ids.keys() | second_ids.keys() if first_ids.get(token) != second_ids.get(token)]
    if tokens:
        token = min(tokens)
        raise ValueError(
            f"the tokenizers differ in {len(tokens)} tokens: {token!r} is {first_ids.get(token, 'absent')} in {a}, "
            f"{second_ids.get(token, 'absent')} in {b}; the same row of the embeddings means something else in each "
            "model"
        )
    if parts := [key for key in first if first[key] != second[key]]:
        raise ValueError(f"the tokenizers differ in {', '.join(parts)}: {a} and {b}")


def _tokenizer(path: Path) -> tuple[dict[str, int], dict[str, Any]]:
    """Return {token: id} and everything else that decides a text's ids: not truncation and padding, left by runs.

    The library reads and writes it, so that files of its older versions compare equal.
    """
    from tokenizers import Tokenizer

    refuse_pointer(path)
    try:
        content = json.loads(Tokenizer.from_file(str(path)).to_str())
    except Exception as error:  # The library raises nothing narrower.
        raise ValueError(f"{path} is not a tokenizer: {error}") from None
    model = content["model"]
    vocabulary = model.pop("vocab")
    if isinstance(vocabulary, list):
        vocabulary = {json.dumps(token): place for place, token in enumerate(vocabulary)}
    vocabulary |= {token["content"]: token["id"] for token in content["added_tokens"]}
    parts = {key: content[key] for key in ("normalizer", "pre_tokenizer", "post_processor", "decoder")}
    return vocabulary, {"merges": model.pop("merges", None), "model": model, **parts}


def check_tensors(models: dict[Path, dict[str, Stored]]) -> tuple[list[str], list[str]]:
    """Return the tensors to merge, in the order of the first model, and those to leave out.

    Left out are tensors that only some files hold and that loading does not need: copies of tied weights, such as an
    lm_head equal to the embeddings, and buffers that Transformers computes, such as rotary_emb.inv_freq.

    Args:
        models: {folder: {tensor: its place}}.

    Raises:
        ValueError: missing or extra tensors, shapes, floats of a width that is not summed, or tensors that are not
            floats and differ.
    """
    everywhere = set.intersection(*(set(tensors) for tensors in models.values()))
    left_out = set()
    for folder, tensors in models.items():
        partial = [name for name in tensors if name not in everywhere]
        unread = [name for name in partial if _tied_copy(folder, name, tensors, everywhere)]
        unread += _computed(folder, [name for name in partial if name not in unread])
        left_out.update(unread)
        if extra := [name for name in partial if name not in left_out]:
            lacking = next(f for f, others in models.items() if extra[0] not in others)
            listed = ", ".join(f"{name} {list(tensors[name].shape)}" for name in extra[:_SHOWN])
            raise ValueError(
                f"{folder} has tensors that {lacking} lacks: {listed}{_more(extra)}; if Transformers reads both "
                "folders alike, load each with from_pretrained and save it with save_pretrained"
            )
    (first, expected), *others = models.items()
    names = [name for name in expected if name in everywhere]
    for tensors in models.values():
        for name in names:
            _check_float(name, tensors[name])
    for folder, tensors in others:
        shapes = [name for name in names if tensors[name].shape != expected[name].shape]
        if shapes:
            listed = "\n".join(
                f"  {name}: {list(expected[name].shape)} in {first}, {list(tensors[name].shape)} in {folder}"
                for name in shapes[:_SHOWN]
            )
            raise ValueError(f"the shapes of tensors differ:\n{listed}{_more(shapes)}")
        for name in names:
            _check_rest(name, expected[name], tensors[name])
    return names, sorted(left_out)


def _tied_copy(folder: Path, name: str, tensors: dict[str, Stored], everywhere: set[str]) -> bool:
    tensor = tensors[name]
    alike = [
        t for other, t in tensors.items() if other in everywhere and (t.shape, t.dtype) == (tensor.shape, tensor.dtype)
    ]
    if not any(same_bytes(tensor, other) for other in alike):
        return False
    config = read_config(folder)
    if "tie_word_embeddings" not in config:
        config = _completed(folder, config)
    return bool(config.get("tie_word_embeddings"))


def _computed(folder: Path, names: list[str]) -> list[str]:
    """Return those of `names` that Transformers skips when it loads the folder, since it computes them."""
    if not names:
        return []
    # Rare, and importing torch takes seconds.
    from bonesoup.weights.fold import skeleton

    try:
        model = skeleton(folder)
    except ValueError:
        return []
    skipped = set(model._keys_to_ignore_on_load_unexpected or ())
    # As in PreTrainedModel._adjust_missing_and_unexpected_keys: buffers that used to be saved.
    for buffer, pattern in (("rotary_emb.inv_freq", r"rotary_emb\.inv_freq"), ("position_ids", r"(^|\.)position_ids$")):
        if any(name.endswith(buffer) for name, _ in model.named_buffers()):
            skipped.add(pattern)
    prefix = f"{model.base_model_prefix}."
    known = {key for name in model.state_dict() for key in (name, name.removeprefix(prefix))}
    return [name for name in names if name not in known and any(re.search(pattern, name) for pattern in skipped)]


def _check_float(name: str, tensor: Stored) -> None:
    """Refuse floats of other widths: copied, they would stay unscaled."""
    if tensor.dtype not in FLOATS and tensor.dtype.startswith(("F", "C")):
        raise ValueError(
            f"{tensor.file}: tensor {name} is {tensor.dtype} {list(tensor.shape)}; "
            f"only {', '.join(FLOATS.values())} can be merged: save that model in one of them first"
        )


def _check_rest(name: str, a: Stored, b: Stored) -> None:
    """Refuse tensors that cannot be averaged (counts, masks) unless they are the same."""
    if a.dtype in FLOATS and b.dtype in FLOATS:
        return
    if a.dtype != b.dtype or not same_bytes(a, b):
        raise ValueError(
            f"tensor {name} is {a.dtype} {list(a.shape)} in {a.file} and {b.dtype} {list(b.shape)} in {b.file}, with "
            f"different values; only {', '.join(FLOATS.values())} tensors can be merged, others must be the same. "
            "If the models are quantised, merge the unquantised ones and quantise the result"
        )


def _more(listed: Sequence[str]) -> str:
    return f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
