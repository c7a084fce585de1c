"""A preference into coefficients, and what to expect there."""

import numpy as np

from bonesoup.method.preferences import preference_faults
from bonesoup.serving.errors import ApiError
from bonesoup.serving.protocol import Weights, split_model, weights
from bonesoup.serving.source import Source


def method_of(source: Source, model: str) -> str:
    """The method that a model's name asks for.

    Raises:
        ApiError: 404, no such model.
    """
    name, _ = split_model(model)
    for method, known in source.models.items():
        if name == known:
            return method
    raise ApiError(404, f"no model {name!r}: {', '.join(source.models.values())}", "model", "model_not_found")


def preference_of(source: Source, model: str, preference: Weights | str | None) -> Weights:
    """The preference of a request, from its body or its model's name, or the default.

    Raises:
        ApiError: 400, naming what is wrong with it, or that the two differ.
    """
    _, named = split_model(model)
    try:
        found = [
            _checked(source, weights(text, source.preferences)) for text in (preference, named) if text is not None
        ]
    except ValueError as error:
        raise ApiError(400, str(error), "preference", "invalid_preference") from None
    if len(found) == 2 and any(abs(found[0][name] - found[1][name]) > 1e-6 for name in source.objectives):
        raise ApiError(
            400,
            f"the body asks for {shown(found[0])}, the model's name for {shown(found[1])}: give one of them",
            "preference",
            "invalid_preference",
        )
    return found[0] if found else _checked(source, source.default)


def _checked(source: Source, chosen: Weights) -> Weights:
    if faults := preference_faults(chosen, list(source.objectives)):
        raise ValueError(f"preference {shown(chosen)}: " + "; ".join(faults))
    return {name: float(chosen[name]) for name in source.objectives}


def shown(chosen: Weights) -> str:
    return ",".join(f"{name}={weight:g}" for name, weight in chosen.items())


def coefficients(source: Source, method: str, chosen: Weights) -> dict[str, float]:
    """Policy -> lambda."""
    soup = source.soups[method]
    values = soup.coefficients([chosen[name] for name in source.objectives])
    return {policy.slot: float(value) for policy, value in zip(soup.policies, values, strict=True)}


def expected(source: Source, method: str, chosen: Weights) -> dict | None:
    """What the method scored at the measured preference nearest to this one; between two of them for two objectives.

    Returns:
        {"mean", "low", "high": [objective], "from": "measured", "interpolated" or "nearest"}, or None where nothing
        was measured. Interpolated bounds say nothing of what may lie between measured points.
    """
    points = (source.front or {"methods": {}})["methods"].get(method)
    if not points:
        return None
    at = np.array([chosen[name] for name in source.objectives])
    grid = np.array([point["preference"] for point in points])
    parts = ("mean", "low", "high")
    nearest = int(np.linalg.norm(grid - at, axis=1).argmin())
    if len(grid) == 1 or np.allclose(grid[nearest], at, atol=1e-6):
        return {part: points[nearest][part] for part in parts} | {"from": "measured"}
    if len(at) > 2:
        return {part: points[nearest][part] for part in parts} | {"from": "nearest"}
    ordered = sorted(points, key=lambda point: point["preference"][0])
    first = [point["preference"][0] for point in ordered]
    values = {
        part: [float(np.interp(at[0], first, [point[part][k] for point in ordered])) for k in (0, 1)] for part in parts
    }
    return values | {"from": "interpolated"}
