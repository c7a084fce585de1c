"""Weights as tensors on disk: read, combined and written exactly; adapters, soups of them, and whole checkpoints."""

import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    """`merge`, imported when it is asked for: other modules of this folder need nothing of it."""
    if name == "merge":
        return importlib.import_module("bonesoup.weights.merging").merge
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
