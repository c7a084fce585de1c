"""A soup: policies, their weight rows, and how a preference becomes merging coefficients.

`Soup` is the recipe on disk. `SoupModel` is one base model in memory with every policy attached; each row of a batch
has its own mixture, exact for any real coefficients, negative ones included.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from bonesoup.chat import with_template
from bonesoup.files import read_json
from bonesoup.generation.mixer import Mixer
from bonesoup.generation.reward_context import contexts, stated
from bonesoup.method.mappings import MAPPINGS, solving
from bonesoup.weights.adapter_files import WEIGHTS, load
from bonesoup.weights.adapters import Adapter, concatenate
from bonesoup.weights.checkpoint import read_config
from bonesoup.weights.pretrained import load_model, load_tokenizer

# Number of rows of one mixture from which folding it into the weights is faster; bench/steer.py prints it.
FOLD_FROM = 48


@dataclass(frozen=True)
class Policy:
    """One trained policy: its slot, the folder of its adapter, and its weight row [objective]."""

    slot: str
    path: Path
    row: tuple[float, ...]


@dataclass(frozen=True)
class Soup:
    """Hold the policies of a soup and the rule from preferences to coefficients over them.

    Attributes:
        mapping: key of MAPPINGS: the rule from preference to coefficients.
        mixes: objects that lambda mixes: the `weights` of the policies, or their next-token `distributions` (MOD).
        scale: extrapolation per objective; None is 1 everywhere.
        reach: `context` only: the lowest and the highest reward that its prompts ask for, each [objective].
        reference: the SFT policy, if it is not the base.
    """

    method: str
    base: Path
    objectives: tuple[str, ...]
    mapping: str
    policies: tuple[Policy, ...]
    preferences: tuple[tuple[float, ...], ...]
    mixes: str = "weights"
    scale: tuple[float, ...] | None = None
    reach: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    reference: Path | None = None

    @classmethod
    def read(cls, path: Path, root: Path = Path(".")) -> "Soup":
        """Read a soup file; its paths are taken from `root`.

        Raises:
            ValueError: a path is absolute or leads out of `root`; a file from outside could name any folder.
        """
        raw = read_json(path)

        def inside(name: str) -> Path:
            # Compare paths as text: DVC may link a folder to its cache.
            if Path(name).is_absolute() or ".." in Path(name).parts:
                raise ValueError(f"{path}: the path {name!r} leads out of the soup's folder: it must be relative to it")
            return Path(root) / name

        policies = [Policy(p["slot"], inside(p["path"]), tuple(p["row"])) for p in raw["policies"]]
        return cls(
            method=raw["method"],
            base=inside(raw["base"]),
            objectives=tuple(raw["objectives"]),
            mapping=raw["mapping"],
            policies=tuple(policies),
            preferences=tuple(tuple(p) for p in raw["preferences"]),
            mixes=raw.get("mixes", "weights"),
            scale=tuple(raw["scale"]) if raw.get("scale") else None,
            reach=tuple(map(tuple, raw["reach"])) if raw.get("reach") else None,
            reference=inside(raw["reference"]) if raw.get("reference") else None,
        )

    @classmethod
    def of_adapters(
        cls,
        base: str | Path,
        adapters: Mapping[str, str | Path],
        rows: Mapping[str, Mapping[str, float]] | None = None,
    ) -> "Soup":
        """Return the soup of named adapters {name: folder}.

        Args:
            rows: {adapter: {objective: weight}}, one for each adapter. Without rows there are no objectives, and a
                preference consists of the adapters' weights.
        """
        objectives = tuple(next(iter(rows.values()))) if rows else ()
        policies = tuple(
            Policy(name, Path(path), tuple(rows[name][each] for each in objectives) if rows else ())
            for name, path in adapters.items()
        )
        mapping = solving(len(policies), len(objectives)) if rows else "direct"
        return cls("adapters", Path(base), objectives, mapping, policies, ())

    def contexts(self, preferences: Sequence) -> list[str]:
        """Return the texts that ask for `preferences` [point, objective] in the prompt; none if it reads no prompt."""
        if self.mapping == "context":
            return contexts(self.objectives, self.reach, preferences)
        return stated(self.objectives, preferences) if MAPPINGS[self.mapping].reads else []

    def coefficients(self, preference) -> np.ndarray:
        """Return the coefficients lambda [policy] of a preference [objective].

        Raises:
            ValueError: a `lookup` soup has no policy for this preference.
        """
        # [policy, n]; in the diagnosis n counts the adapters, and adapters without reward weights have n = 0.
        rows = np.array([policy.row for policy in self.policies] or np.empty((0, len(preference))))
        scale = None if self.scale is None else np.array(self.scale)
        try:
            return MAPPINGS[self.mapping].coefficients(rows, np.asarray(preference, float), scale)
        except ValueError as error:
            raise ValueError(f"soup {self.method}: {error}") from None


@dataclass(frozen=True, eq=False)
class SoupModel:
    """One base model in memory with the policies of a soup on it, and perhaps those of other soups.

    Generates at weights that differ from row to row, without merging. With your own adapters, one weight each:

        model = SoupModel.of_adapters("models/llama", {"calm": "adapters/calm", "bold": "adapters/bold"})
        model.mix([[1.4, -0.4], [0.0, 1.0]])  # [row, adapter]
        texts = sample(model.model, model.tokenizer, prompts, seeds, temperature=0.7, max_new_tokens=64, batch=2)

    Attributes:
        policies: all policies in the order of coefficients: those of `soup` first, then those of the other soups.
    """

    soup: Soup
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    policies: tuple[Policy, ...]
    mixer: Mixer

    @classmethod
    def load(
        cls, soup: Soup, device: str = "cpu", dtype: torch.dtype | str = "auto", beside: Sequence[Soup] = ()
    ) -> "SoupModel":
        """Load base, tokenizer and adapters once.

        Args:
            device: "auto" is the GPU if there is one.
            dtype: "auto" keeps the checkpoint's.
            beside: other soups on the same base, such as the Rewarded Soup that this one is compared with.

        Raises:
            ValueError: the base or an adapter is not there as safetensors or does not fit, or the bases differ.
        """
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        # The libraries would look up a missing folder on the Hub, or read a pickle.
        if not soup.base.is_dir():
            raise ValueError(f"soup {soup.method}: its base {soup.base} does not exist")
        if others := [other for other in beside if other.base != soup.base]:
            raise ValueError(f"soup {others[0].method} is on the base {others[0].base}, {soup.method} on {soup.base}")
        tokenizer = load_tokenizer(soup.base)
        model = load_model(AutoModelForCausalLM, soup.base, dtype=dtype).to(device).eval()
        policies = tuple(dict.fromkeys(policy for recipe in (soup, *beside) for policy in recipe.policies))
        for policy in policies:
            if not (policy.path / WEIGHTS).is_file():
                raise ValueError(f"soup {soup.method}: {policy.path / WEIGHTS} of {policy.slot} does not exist")
        mixer = Mixer(model, [load(policy.path) for policy in policies], [policy.slot for policy in policies])
        return cls(soup, model, tokenizer, policies, mixer)

    @classmethod
    def of_adapters(
        cls,
        base: str | Path,
        adapters: Mapping[str, str | Path],
        device: str = "cpu",
        dtype: torch.dtype | str = "auto",
    ) -> "SoupModel":
        """Load a base and named LoRA adapters; coefficients are their weights, in this order.

        The tokenizer ends answers as its chat template does.

        Raises:
            ValueError: the base is not a Transformers folder with safetensors weights, or is quantised; an adapter is
                more than plain LoRA, or belongs to another base.
        """
        read_config(Path(base))
        model = cls.load(Soup.of_adapters(base, adapters), device, dtype)
        with_template(model.tokenizer)
        return model

    def coefficients(self, preference) -> np.ndarray:
        """Return lambda [policy] of a preference [objective] in the main soup; 0 for the policies of others.

        Raises:
            ValueError: see `Soup.coefficients`.
        """
        return self.spread(self.soup.coefficients(preference), self.soup)

    def spread(self, coefficients, soup: Soup) -> np.ndarray:
        """Place the coefficients [policy] of `soup` among all policies: lambda [policy], 0 for those of other soups."""
        values = np.zeros(len(self.policies))
        values[[self.policies.index(policy) for policy in soup.policies]] = coefficients
        return values

    def at(self, preference) -> np.ndarray:
        """Answer every row at one preference [objective] from now on; return the coefficients [policy]."""
        values = self.coefficients(preference)
        self.mixer.set(torch.tensor(values)[None])
        return values

    def mix(self, coefficients: np.ndarray) -> None:
        """Answer row i of every batch with the mixture coefficients[i], [row, policy], from now on.

        Many rows of one mixture are cheaper with the mixture folded into the weights. That choice depends on the rows
        alone, so that a run can be repeated bit for bit.
        """
        rows = torch.tensor(np.asarray(coefficients, float))
        if len(rows) >= FOLD_FROM and bool((rows == rows[0]).all()):
            self.mixer.fold(rows[0])
        else:
            self.mixer.set(rows)

    def base_alone(self) -> None:
        """Answer as the SFT policy from now on."""
        self.mixer.set(None)


def merge_adapters(soup: Soup, preference) -> tuple[Adapter, np.ndarray]:
    """Return the exact adapter of a soup for one preference [objective], and its coefficients [policy].

    Raises:
        ValueError: the soup has no policies, or its mixture is not a mixture of weights.
    """
    if MAPPINGS[soup.mapping].reads:
        raise ValueError(f"soup {soup.method} reads the preference in its prompt: there is no adapter to merge")
    if not soup.policies:
        raise ValueError(f"soup {soup.method} has no policies: it is the base {soup.base} alone")
    if soup.mixes != "weights":
        raise ValueError(f"soup {soup.method} mixes {soup.mixes}, not weights: there is no adapter to merge")
    values = soup.coefficients(preference)
    return mixed(soup, values), values


def mixed(soup: Soup, coefficients: np.ndarray) -> Adapter:
    """Return the policies of a soup, mixed with coefficients [policy], as one exact adapter."""
    pairs = zip(soup.policies, coefficients, strict=True)
    return concatenate([(load(policy.path), float(value)) for policy, value in pairs])
