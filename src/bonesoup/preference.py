"""Preferences as a user writes them: weights by the objectives' names."""

import math


def parse_weights(text: str, known: list[str]) -> dict[str, float]:
    """'a=0.7,b=0.3' -> {'a': 0.7, 'b': 0.3}."""
    try:
        pairs = [part.split("=") for part in text.split(",")]
        weights = {name.strip(): float(value) for name, value in pairs}
    except ValueError:
        raise ValueError(
            f"preference {text!r} is neither a named preference ({', '.join(known) or 'none defined'}) "
            "nor of the form helpful=0.7,harmless=0.3"
        ) from None
    if len(weights) < len(pairs):
        raise ValueError(f"preference {text!r} names an objective twice")
    return weights


def preference_faults(weights: dict[str, float], objectives: list[str]) -> list[str]:
    """Why `weights` is no preference over `objectives`; empty when it is one."""
    faults = []
    if unknown := sorted(set(weights) - set(objectives)):
        faults.append(f"unknown objectives {', '.join(unknown)} (known: {', '.join(objectives)})")
    if missing := [name for name in objectives if name not in weights]:
        faults.append(f"no weight for {', '.join(missing)}")
    values = list(weights.values())
    if any(not math.isfinite(value) or value < 0 for value in values):
        faults.append("weights must be finite and not negative")
    elif abs(sum(values) - 1) > 1e-6:
        faults.append(f"weights sum to {sum(values):g}, not 1")
    return faults
