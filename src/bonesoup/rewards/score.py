"""Score text with any reward: prompts and responses in, raw scores out, whatever computes them.

A reward folder holds reward.json:

    {"objective", "kind": "function", "function", "digest"}
    {"objective", "kind": "pairs" | "labels" | "pretrained", "model"?, "revision"?, "input", "logit"}
    {"objective", "kind": "head", "model", "head": {"layer", "weight", "bias", "penalty"}, "judge": false}
    judge/reward.json   the same with "judge": true: a head fitted on other prompts, which no policy is trained against

`model` is a Hub id or a folder, for a head the base; without it the model lies in model/ next to reward.json, that of a
judge next to its reward's. Learned rewards record their accuracy on held-out rows. Scores are finite or an error: TRL
would silently drop a NaN from a weighted sum.
"""

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerBase

from bonesoup.files import read_json
from bonesoup.rewards.features import Messages, Trunk
from bonesoup.rewards.head import JUDGE, Head
from bonesoup.weights.pretrained import load_model, load_tokenizer

BATCH = 256  # rows of a classifier's forward pass
# Input of a tokenizer: a text, or two texts that it joins with its separator.
Text = str | tuple[str, str]
# If an input is longer than the model reads, the prompt is cut at its start, never the response.
TRUNCATION = {
    "prompt-response": ("left", "only_first"),
    "response-prompt": ("right", "only_second"),
    "response-bos-prompt": ("right", "longest_first"),
}


@dataclass(frozen=True)
class Reward:
    """The reward of an objective.

    Attributes:
        scores: (prompts, responses) -> raw scores [batch].
    """

    objective: str
    scores: Callable[[list[Messages], list[str]], Any]

    def score(self, prompts: list[Messages], responses: list[str]) -> np.ndarray:
        """Return raw scores [batch], float64.

        Raises:
            ValueError: the reward fails, or does not return one finite number per response; names objective and row.
        """
        try:
            values = _numbers(self.scores(prompts, responses))
        except Exception as error:  # anything a user's function raises
            raise ValueError(
                f"reward {self.objective} failed{self._first_row(prompts, responses)}: {type(error).__name__}: {error}"
            ) from error
        if values.shape != (len(responses),):
            raise ValueError(
                f"reward {self.objective}: returned shape {values.shape} for {len(responses)} responses; "
                "it must return one number per response"
            )
        if not np.isfinite(values).all():
            row = int(np.flatnonzero(~np.isfinite(values))[0])
            raise ValueError(
                f"reward {self.objective}: score of row {row} is {values[row]}, for {_shown(prompts, responses, row)}"
            )
        return values

    def _first_row(self, prompts: list[Messages], responses: list[str]) -> str:
        """Name the first row on which the reward fails when scored alone, if it does not fail on all."""
        failed = []
        for row in range(len(responses)):
            try:
                _numbers(self.scores(prompts[row : row + 1], responses[row : row + 1]))
            except Exception:
                failed.append(row)
        if not failed or len(failed) == len(responses):
            return ""
        return f" on row {failed[0]}, {_shown(prompts, responses, failed[0])}"


def _numbers(values: Any) -> np.ndarray:
    """Turn the result of a reward into an array, also if it is a generator or a tensor with a gradient."""
    if inspect.isawaitable(values):
        values.close()
        raise TypeError("it is asynchronous; write it as a plain function")
    if isinstance(values, torch.Tensor):
        return values.detach().cpu().numpy().astype(float)
    return np.asarray(list(values) if isinstance(values, Iterator) else values, dtype=float)


def _shown(prompts: list[Messages], responses: list[str], row: int) -> str:
    return f"the response {responses[row][:80]!r} to {prompts[row][-1]['content'][:80]!r}"


def score_all(rewards: Sequence[Reward], prompts: list[Messages], responses: list[str]) -> np.ndarray:
    """Return raw scores [response, reward]; errors are those of `Reward.score`."""
    return np.stack([reward.score(prompts, responses) for reward in rewards], axis=1)


def load_rewards(folders: list[Path], device: str = "cpu") -> list[Reward]:
    """Load the rewards that the reward stage wrote; heads on the same base share it and its features of the last batch.

    Raises:
        ValueError: a function cannot be imported, or a model is no classifier with that logit.
    """
    trunks: dict[str, SharedTrunk] = {}
    return [_load(folder, device, trunks) for folder in folders]


def load_reward(folder: Path, device: str = "cpu") -> Reward:
    """Load one reward; see `load_rewards`."""
    return load_rewards([folder], device)[0]


def judge_folders(folders: list[Path]) -> list[Path] | None:
    """Name the folder of each reward's judge, which no policy was trained against.

    The judge of a reward head is a second head next to it; a computed reward is exact and judges itself.

    Returns:
        None if a learned reward has no judge, or if all rewards are computed.
    """
    judges = []
    for folder in folders:
        if (folder / JUDGE / "reward.json").is_file():
            judges.append(folder / JUDGE)
        elif read_json(folder / "reward.json")["kind"] == "function":
            judges.append(folder)
        else:
            return None
    return judges if judges != folders else None


def _load(folder: Path, device: str, trunks: "dict[str, SharedTrunk]") -> Reward:
    spec = read_json(folder / "reward.json")
    if spec["kind"] == "function":
        return Reward(spec["objective"], load_function(spec["function"]))
    source = spec.get("model") or (folder.parent if spec.get("judge") else folder) / "model"
    if spec["kind"] == "head":
        trunk = trunks.setdefault(str(source), SharedTrunk(source, device))
        head = Head(**spec["head"])
        return Reward(spec["objective"], lambda prompts, responses: head(trunk(prompts, responses, head.layer)))
    return Reward(spec["objective"], _classifier(spec, source, device))


def _classifier(spec: dict, source: str | Path, device: str) -> Callable[[list[Messages], list[str]], np.ndarray]:
    """Load a sequence classifier and its tokenizer, set up to read and cut texts as reward.json says."""
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
        # A chat template includes special tokens; plain text needs the tokenizer's.
        special = spec["input"] != "chat"
        return classify(model, tokenizer, texts, BATCH, special, truncation)[:, spec["logit"]]

    return scores


class SharedTrunk:
    """The base under several heads: loaded on first use, with the features of the last batch remembered."""

    def __init__(self, source: str | Path, device: str):
        self.source, self.device = source, device
        self._trunk: Trunk | None = None
        self._last: tuple[list[Messages], list[str]] | None = None
        self._values: np.ndarray | None = None

    def __call__(self, prompts: list[Messages], responses: list[str], layer: int) -> np.ndarray:
        """Return the features [row, hidden] of one layer."""
        if self._trunk is None:
            self._trunk = Trunk.load(self.source, self.device)
        if self._last != (prompts, responses):
            self._values = self._trunk.features(prompts, responses, self._trunk.layers)
            self._last = ([*prompts], [*responses])
        return self._values[:, self._trunk.layers.index(layer)]


def load_classifier(source: str | Path, revision: str | None, convert_bin: bool = False):
    """Load a sequence classifier; refuse a checkpoint without a trained head.

    Raises:
        ValueError: the checkpoint has no trained head (its scores would be random), or is not in safetensors while
            `convert_bin` is off.
    """
    model, info = load_model(
        AutoModelForSequenceClassification, source, revision, convert_bin, output_loading_info=True
    )
    if missing := sorted(info["missing_keys"]):
        raise ValueError(f"{source} is not a trained reward model: its checkpoint lacks {', '.join(missing[:3])}")
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


def source_of(name: str) -> str | None:
    """Find the file of a reward function, or for a callable object of the module that names it; None if not Python.

    Raises:
        ValueError: the function cannot be imported.
    """
    function = inspect.unwrap(load_function(name))
    owner = function if inspect.isfunction(function) else sys.modules[name.partition(":")[0]]
    try:
        return inspect.getsourcefile(owner)
    except TypeError:  # a module that is not written in Python
        return None


def render(tokenizer: PreTrainedTokenizerBase, style: str, prompts: list[Messages], responses: list[str]) -> list[Text]:
    """Render the input of a reward model in one of the styles of `schema.RewardInput`."""
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
    """Return logits [batch, labels]; rows of similar length share a forward pass.

    Args:
        special: add the tokenizer's special tokens.
    """
    pairs = [text if isinstance(text, tuple) else (text,) for text in texts]
    encoded = [tokenizer(*pair, add_special_tokens=special, truncation=truncation) for pair in pairs]
    order = sorted(range(len(encoded)), key=lambda i: len(encoded[i]["input_ids"]))
    logits = np.empty((len(encoded), model.config.num_labels))
    for start in range(0, len(encoded), batch):
        rows = order[start : start + batch]
        inputs = tokenizer.pad([encoded[i] for i in rows], padding_side="right", return_tensors="pt")
        logits[rows] = model(**inputs.to(model.device)).logits.float().cpu().numpy()
    return logits
