"""Features of (prompt, response) from the frozen base: hidden states averaged over the response.

A row costs a forward pass. All reward heads of a run share the features, which are stored on disk chunk by chunk, so
that a killed stage resumes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from transformers import AutoModel, PreTrainedModel, PreTrainedTokenizerBase

from bonesoup.files import appearing, digest, file_digest
from bonesoup.imports import code_digest
from bonesoup.progress import Throttle
from bonesoup.weights.pretrained import load_model, load_tokenizer

Messages = list[dict[str, str]]
CHUNK = 64  # rows in a file of features: some seconds of work
BATCH = 16  # rows of a forward pass


@dataclass(frozen=True)
class Trunk:
    """The frozen base without its head."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    @classmethod
    def load(cls, source: str | Path, device: str = "cpu") -> "Trunk":
        return cls(load_model(AutoModel, source).to(device).eval(), load_tokenizer(source))

    @property
    def layers(self) -> list[int]:
        """List the layers that features are taken from: half way up, at two thirds, at five sixths.

        A few are enough; the last layers serve to predict the next token.
        """
        depth = self.model.config.num_hidden_layers
        return sorted({max(1, round(depth * share)) for share in (1 / 2, 2 / 3, 5 / 6)})

    @torch.inference_mode()
    def features(self, prompts: list[Messages], responses: list[str], layers: Sequence[int]) -> np.ndarray:
        """Average the hidden states of some layers over a response and its end token.

        Returns:
            [row, layer, hidden], float32.
        """
        rows = [self._ids(prompt, response) for prompt, response in zip(prompts, responses, strict=True)]
        out = np.empty((len(rows), len(layers), self.model.config.hidden_size), np.float32)
        order = sorted(range(len(rows)), key=lambda row: len(rows[row][0]))
        for start in range(0, len(rows), BATCH):
            batch = order[start : start + BATCH]
            inputs = self.tokenizer.pad(
                {"input_ids": [rows[row][0] for row in batch]}, padding_side="right", return_tensors="pt"
            ).to(self.model.device)
            states = self.model(**inputs, output_hidden_states=True).hidden_states
            for place, row in enumerate(batch):
                ids, first = rows[row]
                for k, layer in enumerate(layers):
                    out[row, k] = states[layer][place, first : len(ids)].float().mean(0).cpu().numpy()
        return out

    def _ids(self, prompt: Messages, response: str) -> tuple[list[int], int]:
        """Return the token ids of a dialogue as sampled, and the index at which the response begins."""
        text = self.tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
        prompt_ids, response_ids = (
            self.tokenizer(part, add_special_tokens=False)["input_ids"] for part in (text, response)
        )
        return [*prompt_ids, *response_ids, self.tokenizer.eos_token_id], len(prompt_ids)


def features(
    base: Path, prompts: list[Messages], responses: list[str], kept: Path, device: str, name: str
) -> tuple[list[int], np.ndarray]:
    """Compute or read the features of rows.

    Args:
        kept: folder of all features; those of the same base, device and code share a folder inside.
        name: shown in the progress lines.

    Returns:
        The layers, and [row, layer, hidden].
    """
    folder = kept / digest(file_digest(base), device, torch.get_num_threads(), code_digest(__name__))
    chunks = [
        (prompts[start : start + CHUNK], responses[start : start + CHUNK]) for start in range(0, len(prompts), CHUNK)
    ]
    files = [folder / f"{digest(*chunk)}.safetensors" for chunk in chunks]
    missing = [k for k, file in enumerate(files) if not file.is_file()]
    trunk = Trunk.load(base, device) if missing else None
    throttle = Throttle(10)
    for done, k in enumerate(missing, start=1):
        tensors = {"layers": np.array(trunk.layers), "features": trunk.features(*chunks[k], trunk.layers)}
        with appearing(files[k]) as file:
            save_file(tensors, file)
        if throttle.ready() or done == len(missing):
            print(f"{name}: features of {done * CHUNK:,} of {len(missing) * CHUNK:,} responses", flush=True)
    parts = [load_file(file) for file in files]
    return parts[0]["layers"].tolist(), np.concatenate([part["features"] for part in parts])
