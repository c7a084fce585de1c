"""Rewards as one thing: text in, raw scores out, whatever is behind them.

A reward folder holds reward.json, which says what kind it is and how its input is made; learned rewards also
hold their model. Scores are finite or an error: TRL would silently drop a NaN from a weighted sum.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerBase

from bonesoup.files import read_json
from bonesoup.weights.pretrained import load_model, load_tokenizer

Messages = list[dict[str, str]]
# What a tokenizer is given: one text, or the two that it joins with its own separator.
Text = str | tuple[str, str]
# Where an input is longer than the model reads, the prompt is given up from its far end, never the response.
TRUNCATION = {
    "prompt-response": ("left", "only_first"),
    "response-prompt": ("right", "only_second"),
    "response-bos-prompt": ("right", "longest_first"),
}


@dataclass(frozen=True)
class Reward:
    """A reward of one objective.

    Attributes:
        scores: (prompts, responses) -> raw scores [batch].
    """

    objective: str
    scores: Callable[[list[Messages], list[str]], np.ndarray]

    def score(self, prompts: list[Messages], responses: list[str]) -> np.ndarray:
        """Raw scores [batch], float64.

        Raises:
            ValueError: the wrong number of scores, or one that is not finite; names the objective and the row.
        """
        values = np.asarray(self.scores(prompts, responses), dtype=float)
        if values.shape != (len(responses),):
            raise ValueError(
                f"reward {self.objective}: returned shape {values.shape} for {len(responses)} responses; "
                "it must return one number per response"
            )
        if not np.isfinite(values).all():
            row = int(np.flatnonzero(~np.isfinite(values))[0])
            raise ValueError(
                f"reward {self.objective}: score of row {row} is {values[row]}, for the response "
                f"{responses[row][:80]!r} to {prompts[row][-1]['content'][:80]!r}"
            )
        return values


def load_rewards(folders: list[Path], device: str = "cpu", batch: int = 256) -> list[Reward]:
    return [load_reward(folder, device, batch) for folder in folders]


def load_reward(folder: Path, device: str = "cpu", batch: int = 256) -> Reward:
    """Load the reward that the reward stage left in `folder`.

    Raises:
        ValueError: the function cannot be imported, or the model is no classifier with that logit.
    """
    spec = read_json(folder / "reward.json")
    if spec["kind"] == "function":
        return Reward(spec["objective"], load_function(spec["function"]))
    source = spec.get("model") or folder / "model"
    model = load_classifier(source, spec.get("revision")).to(device).eval()
    if not 0 <= spec["logit"] < model.config.num_labels:
        raise ValueError(
            f"reward {spec['objective']}: logit {spec['logit']} does not exist, "
            f"{source} has {model.config.num_labels} labels"
        )
    tokenizer = load_tokenizer(source, spec.get("revision"))
    tokenizer.truncation_side, truncation = TRUNCATION.get(spec["input"], ("left", "longest_first"))
    if positions := getattr(model.config, "max_position_embeddings", None):
        tokenizer.model_max_length = min(tokenizer.model_max_length, positions)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id

    def scores(prompts: list[Messages], responses: list[str]) -> np.ndarray:
        texts = render(tokenizer, spec["input"], prompts, responses)
        # A chat template brings its own special tokens; plain text needs the tokenizer's.
        special = spec["input"] != "chat"
        return classify(model, tokenizer, texts, batch, special, truncation)[:, spec["logit"]]

    return Reward(spec["objective"], scores)


def load_classifier(source: str | Path, revision: str | None, convert_bin: bool = False):
    """A sequence classifier, refused when its weights lack the head.

    Raises:
        ValueError: the checkpoint has no trained head (its scores would be random), or is no safetensors while
            `convert_bin` is off.
    """
    model, info = load_model(
        AutoModelForSequenceClassification, source, revision, convert_bin, output_loading_info=True
    )
    if missing := sorted(info["missing_keys"]):
        raise ValueError(f"{source} is no trained reward model: its checkpoint lacks {', '.join(missing[:3])}")
    return model


def load_function(name: str) -> Callable[[list[Messages], list[str]], np.ndarray]:
    """Import `package.module:name`.

    Raises:
        ValueError: the module or the name does not exist.
    """
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"reward function {name!r} cannot be imported: {error}") from None


def render(tokenizer: PreTrainedTokenizerBase, style: str, prompts: list[Messages], responses: list[str]) -> list[Text]:
    """What a reward model reads, in one of the styles of `config.RewardInput`."""
    if style == "response":
        return list(responses)
    if style in TRUNCATION:
        asked = ["\n".join(turn["content"] for turn in prompt) for prompt in prompts]
        if style == "prompt-response":
            return list(zip(asked, responses, strict=True))
        if style == "response-prompt":
            return list(zip(responses, asked, strict=True))
        return [f"{answer} {tokenizer.bos_token} {text}" for answer, text in zip(responses, asked, strict=True)]
    if style == "hh":
        names = {"user": "Human", "assistant": "Assistant", "system": "System"}
        return [
            "".join(f"\n\n{names[m['role']]}: {m['content']}" for m in prompt) + f"\n\nAssistant: {response}"
            for prompt, response in zip(prompts, responses, strict=True)
        ]
    return [
        tokenizer.apply_chat_template([*prompt, {"role": "assistant", "content": response}], tokenize=False)
        for prompt, response in zip(prompts, responses, strict=True)
    ]


@torch.inference_mode()
def classify(
    model,
    tokenizer: PreTrainedTokenizerBase,
    texts: list[Text],
    batch: int,
    special: bool = False,
    truncation: str = "longest_first",
) -> np.ndarray:
    """Logits [batch, labels]; rows of like length share a forward pass. `special` adds the tokenizer's own tokens."""
    pairs = [text if isinstance(text, tuple) else (text,) for text in texts]
    encoded = [tokenizer(*pair, add_special_tokens=special, truncation=truncation) for pair in pairs]
    order = sorted(range(len(encoded)), key=lambda i: len(encoded[i]["input_ids"]))
    logits = np.empty((len(encoded), model.config.num_labels))
    for start in range(0, len(encoded), batch):
        rows = order[start : start + batch]
        inputs = tokenizer.pad([encoded[i] for i in rows], padding_side="right", return_tensors="pt")
        logits[rows] = model(**inputs.to(model.device)).logits.float().cpu().numpy()
    return logits
