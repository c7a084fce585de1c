"""A soup: policies, their weight rows, and how a preference becomes merging coefficients.

`Soup` is the recipe on disk; `SoupModel` is one base model in memory with every adapter attached, whose scales
are set for a preference without touching a weight (exact for any real coefficients, negative included).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from bonesoup.files import read_json
from bonesoup.method.basis import coefficients
from bonesoup.weights.adapters import WEIGHTS, Adapter, concatenate, load
from bonesoup.weights.pretrained import load_model, load_tokenizer


@dataclass(frozen=True)
class Policy:
    """One trained policy: its slot, the folder of its adapter, and its weight row [objective]."""

    slot: str
    path: Path
    row: tuple[float, ...]


@dataclass(frozen=True)
class Soup:
    """How preferences become coefficients over policies.

    Attributes:
        mapping: `solve` finds lambda with rows^T lambda = preference (Bone Soup; Rewarded Soup, where the rows
            are the identity, gets lambda = preference); `lookup` answers only preferences that are a row
            (oracles); `single` is one policy whatever the preference; `none` is the base alone.
    """

    method: str
    base: Path
    objectives: tuple[str, ...]
    mapping: str
    policies: tuple[Policy, ...]
    preferences: tuple[tuple[float, ...], ...]

    @classmethod
    def read(cls, path: Path, root: Path = Path(".")) -> "Soup":
        """Read a soup file; its paths are taken from `root`.

        Raises:
            ValueError: a path is absolute or leads out of `root`; a file from outside could name any folder.
        """
        raw = read_json(path)

        def inside(name: str) -> Path:
            # By the words alone: DVC may link a folder to its cache.
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
        )

    def coefficients(self, preference) -> np.ndarray:
        """preference [objective] -> lambda [policy].

        Raises:
            ValueError: a `lookup` soup has no policy for this preference.
        """
        if self.mapping == "none":
            return np.zeros(0)
        if self.mapping == "single":
            return np.ones(1)
        rows = np.array([policy.row for policy in self.policies])
        if self.mapping == "solve":
            return coefficients(rows, np.asarray(preference, float))
        match = np.isclose(rows, preference, atol=1e-6).all(axis=1)
        if not match.any():
            raise ValueError(f"{self.method} has no policy for preference {list(preference)}; it has {rows.tolist()}")
        return np.eye(len(rows))[match.argmax()]


@dataclass(frozen=True)
class SoupModel:
    """One base model with all adapters of a soup."""

    soup: Soup
    model: PreTrainedModel | PeftModel
    tokenizer: PreTrainedTokenizerBase

    @classmethod
    def load(cls, soup: Soup, device: str = "cpu", dtype: torch.dtype | str = "auto") -> "SoupModel":
        """Load base, tokenizer and adapters once. `dtype` "auto" keeps the checkpoint's.

        Raises:
            ValueError: the base or an adapter is not there as safetensors.
        """
        # The libraries would take a missing folder for the name of a model on the Hub, or a pickle in its place.
        if not soup.base.is_dir():
            raise ValueError(f"soup {soup.method}: its base {soup.base} does not exist")
        tokenizer = load_tokenizer(soup.base)
        model = load_model(AutoModelForCausalLM, soup.base, dtype=dtype)
        for policy in soup.policies:
            if not (policy.path / WEIGHTS).is_file():
                raise ValueError(f"soup {soup.method}: {policy.path / WEIGHTS} of {policy.slot} does not exist")
            if isinstance(model, PeftModel):
                model.load_adapter(policy.path, adapter_name=policy.slot)
            else:
                model = PeftModel.from_pretrained(model, policy.path, adapter_name=policy.slot)
        if soup.policies:
            # PeftModel.set_adapter takes one name; the tuner beneath takes several.
            model.base_model.set_adapter([policy.slot for policy in soup.policies], inference_mode=True)
        return cls(soup, model.to(device).eval(), tokenizer)

    def at(self, preference) -> np.ndarray:
        """Set every adapter's scale for a preference [objective]; returns the coefficients [policy]."""
        values = self.soup.coefficients(preference)
        for module in self.model.modules():
            if isinstance(module, LoraLayer):
                for policy, value in zip(self.soup.policies, values.tolist(), strict=True):
                    module.set_scale(policy.slot, value)
        return values

    def base_alone(self):
        """Context in which the model is the SFT policy."""
        if self.soup.policies:
            return self.model.disable_adapter()
        return torch.no_grad()


def merge_adapters(soup: Soup, preference) -> tuple[Adapter, np.ndarray]:
    """The exact adapter of a soup for one preference [objective], and its coefficients [policy].

    Raises:
        ValueError: a soup without policies has no adapter.
    """
    if not soup.policies:
        raise ValueError(f"soup {soup.method} has no policies: it is the base {soup.base} alone")
    values = soup.coefficients(preference)
    parts = [(load(policy.path), value) for policy, value in zip(soup.policies, values.tolist(), strict=True)]
    return concatenate(parts), values
