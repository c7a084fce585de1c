"""From a request's model name and preference to coefficients, and the scores to expect there."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bonesoup.generation.soup import Soup
from bonesoup.method.preferences import parse_weights, preference_faults
from bonesoup.serving.errors import ApiError, quoted
from bonesoup.serving.source import Source

Weights = dict[str, float]


@dataclass(frozen=True)
class Choice:
    """A model at a preference.

    Attributes:
        method: of the soup that answers, as in `Source.soups`.
        preference: weights, in the order of the source's objectives.
        coefficients: lambda by policy.
    """

    method: str
    soup: Soup
    preference: Weights
    coefficients: Weights

    @property
    def steered(self) -> dict:
        """The part of an answer that says how it was steered."""
        return {"preference": self.preference, "coefficients": self.coefficients}


def choose(source: Source, model: str, *given: tuple[str, Weights | str | None]) -> Choice:
    """Resolve a model's name and the preferences of one request, which must agree; the default if there is none.

    Args:
        model: 'NAME', 'NAME/rewarded', or 'NAME@careful' and 'NAME@helpful:0.7+harmless:0.3'.
        given: (where it was given, weights or their text or a name).

    Raises:
        ApiError: 404 for an unknown model, 400 for a preference that is wrong, or two that differ.
    """
    name, at, suffix = model.partition("@")
    method = method_of(source, name)
    places = [(place, value) for place, value in (*given, ("model", suffix if at else None)) if value is not None]
    chosen = [(place, _weights(source, place, value)) for place, value in places]
    for place, preference in chosen[1:]:
        first = chosen[0][1]
        if any(abs(first[name] - preference[name]) > 1e-6 for name in source.objectives):
            raise ApiError(
                400,
                f"{chosen[0][0]} asks for {shown(first)} and {place} for {shown(preference)}: give one of them",
                chosen[0][0],
                "invalid_preference",
            )
    preference = chosen[0][1] if chosen else _weights(source, "preference", source.default)
    soup = source.soups[method]
    values = soup.coefficients(list(preference.values()))
    coefficients = {policy.slot: float(value) for policy, value in zip(soup.policies, values, strict=True)}
    return Choice(method, soup, preference, coefficients)


def choose_all(
    source: Source, model: str, header: str | None, preference: Weights | str | None, preferences: Sequence | None
) -> list[Choice]:
    """The choices of a request: one, or one for each of `preferences`."""
    if not preferences:
        return [choose(source, model, ("preference", preference), ("X-Bonesoup-Preference", header))]
    if preference is not None or header is not None or "@" in model:
        raise ApiError(400, "give one preference or a list of preferences, not both", "preferences")
    return [choose(source, model, (f"preferences.{i}", value)) for i, value in enumerate(preferences)]


def method_of(source: Source, name: str) -> str:
    """Find the method that a model's name, without preference, asks for.

    Raises:
        ApiError: 404, no such model.
    """
    for method, known in source.models.items():
        if name == known:
            return method
    raise ApiError(404, f"no model {quoted(name)}: {', '.join(source.models.values())}", "model", "model_not_found")


def _weights(source: Source, place: str, value: Weights | str) -> Weights:
    try:
        if isinstance(value, str):
            named = source.preferences
            value = named[value] if value in named else parse_weights(value, sorted(named))
        if faults := preference_faults(value, list(source.objectives)):
            raise ValueError(f"preference {shown(value)}: " + "; ".join(faults))
    except ValueError as error:
        raise ApiError(400, str(error), place, "invalid_preference") from None
    return {name: float(value[name]) for name in source.objectives}


def shown(preference: Weights) -> str:
    """Write weights as 'helpful=0.7,harmless=0.3'."""
    return ",".join(f"{name}={weight:g}" for name, weight in preference.items())


def expected(source: Source, choice: Choice) -> dict | None:
    """Look up the method's scores at the measured preference nearest to this one, or between two of two objectives.

    Returns:
        {"mean", "low", "high": [objective], "from": "measured", "interpolated" or "nearest"}, or None if nothing was
        measured. Interpolated bounds do not cover a curve that bends between measured points.
    """
    points = (source.front or {"methods": {}})["methods"].get(choice.method)
    if not points:
        return None
    at = np.array(list(choice.preference.values()))
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
