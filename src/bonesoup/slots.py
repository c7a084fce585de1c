"""Slots: the names of the policies that the methods are made of."""


def method_slots(method: str, n: int, oracles: int) -> list[str]:
    """The policies a method is made of, for n objectives."""
    kind, count = {
        "sft": ("", 0),
        "rewarded": ("specialist", n),
        "bone": ("backbone", n),
        "oracle": ("oracle", oracles),
    }.get(method, ("", 0))
    return [f"{kind}-{k}" for k in range(1, count + 1)]
