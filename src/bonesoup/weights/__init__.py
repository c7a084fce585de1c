"""Weights as tensors on disk: read, combined and written exactly; adapters, soups of them, and whole checkpoints."""

import importlib
from typing import Any

# Imported on demand: merging checkpoints needs no torch and starts in a tenth of a second.
_PLACES = {
    "merge": "bonesoup.weights.merging",
    "mix": "bonesoup.weights.mixing",
    "save": "bonesoup.weights.adapter_files",
    "compress": "bonesoup.weights.adapters",
}


def __getattr__(name: str) -> Any:
    """Import a function of this package's public face."""
    if name in _PLACES:
        return getattr(importlib.import_module(_PLACES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
