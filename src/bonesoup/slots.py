"""Slots: the names of the policies that the methods are made of."""


def method_slots(method: str, n: int, backbones: int, oracles: int) -> list[str]:
    """The policies a method is made of, for n objectives."""
    kind, count = {
        "rewarded": ("specialist", n),
        "mod": ("specialist", n),
        "bone": ("backbone", backbones),
        "unmapped": ("backbone", backbones),
        "oracle": ("oracle", oracles),
    }.get(method, ("", 0))
    return [f"{kind}-{k}" for k in range(1, count + 1)]
