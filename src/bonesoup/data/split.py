"""Split prompts into train, validation and test by hash, so that rows keep their split when others come or go."""

import hashlib
from collections.abc import Mapping

from scipy.cluster.hierarchy import DisjointSet

SPLITS = ("train", "validation", "test")


def assign(groups: Mapping[str, tuple[str, ...]], seed: int, validation: float, test: float) -> dict[str, str]:
    """Return the split of every prompt id.

    Args:
        groups: prompt id -> keys. Prompts that share a key, directly or through others, fall into one split.
        seed: seed of the hash.
        validation, test: expected shares; the rest is train.

    Raises:
        ValueError: a split with a share above zero got no prompt.
    """
    joined = DisjointSet(("prompt", prompt) for prompt in groups)
    for prompt, keys in groups.items():
        for key in keys:
            joined.add(("key", key))
            joined.merge(("prompt", prompt), ("key", key))
    splits = {}
    for members in joined.subsets():
        # The smallest member names the group, so that the order of rows does not matter.
        split = _split(min(members), seed, validation, test)
        splits |= {name: split for kind, name in members if kind == "prompt"}
    shares = {"train": 1 - validation - test, "validation": validation, "test": test}
    if empty := [name for name in SPLITS if shares[name] > 0 and name not in splits.values()]:
        raise ValueError(
            f"{len(groups)} distinct prompts leave nothing for {', '.join(empty)}; use more data, other "
            "data.validation and data.test shares, or another seed"
        )
    return splits


def _split(name: tuple[str, str], seed: int, validation: float, test: float) -> str:
    digest = hashlib.sha256("\0".join((str(seed), *name)).encode()).digest()
    u = int.from_bytes(digest[:8], "big") / 2**64
    return "test" if u < test else "validation" if u < test + validation else "train"
