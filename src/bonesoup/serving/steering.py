"""From a request's model name and preference to coefficients, and the scores to expect there."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bonesoup.evaluation.outcomes import Promise, Unreachable, is_outcome, read_outcome, solve
from bonesoup.generation.soup import Soup
from bonesoup.method.preferences import parse_weights, preference_faults
from bonesoup.serving.errors import ApiError, quoted
from bonesoup.serving.source import Source

Weights = dict[str, float]
# Weights, an outcome, the text of either, or the name of a preference.
Given = Weights | dict[str, str] | str


@dataclass(frozen=True)
class Choice:
    """A model at a preference.

    Attributes:
        method: of the soup that answers, as in `Source.soups`.
        preference: weights, in the order of the source's objectives.
        coefficients: lambda by policy.
        promise: what was measured there; None if the preference was not asked for by outcome.
    """

    method: str
    soup: Soup
    preference: Weights
    coefficients: Weights
    promise: Promise | None = None

    @property
    def steered(self) -> dict:
        """The part of an answer that says how it was steered."""
        outcome = {"outcome": self.promise.plain()} if self.promise else {}
        return {"preference": self.preference, "coefficients": self.coefficients} | outcome


def choose(source: Source, model: str, *given: tuple[str, Given | None]) -> Choice:
    """Resolve a model's name and the preferences of one request, which must agree; the default if there is none.

    Args:
        model: 'NAME', 'NAME/rewarded', or 'NAME@careful' and 'NAME@helpful:0.7+harmless:0.3'.
        given: (where it was given, and what).

    Raises:
        ApiError: 404 for an unknown model, 400 for a preference that is wrong, or two that differ, or an outcome that
            cannot be promised.
    """
    name, at, suffix = model.partition("@")
    method = method_of(source, name)
    places = [(place, value) for place, value in (*given, ("model", suffix if at else None)) if value is not None]
    resolved = [
        (place, *_resolve(source, method, place, value)) for place, value in places or [("default", source.default)]
    ]
    first, preference, _ = resolved[0]
    for place, other, _ in resolved[1:]:
        if any(abs(preference[name] - other[name]) > 1e-6 for name in source.objectives):
            text = f"{first} asks for {shown(preference)} and {place} for {shown(other)}: give one of them"
            raise ApiError(400, text, first, "invalid_preference")
    soup = source.soups[method]
    values = soup.coefficients(list(preference.values()))
    coefficients = {policy.slot: float(value) for policy, value in zip(soup.policies, values, strict=True)}
    promise = next((promise for _, _, promise in resolved if promise), None)
    return Choice(method, soup, preference, coefficients, promise)


def choose_all(
    source: Source, model: str, header: str | None, preference: Given | None, preferences: Sequence | None
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


def _resolve(source: Source, method: str, place: str, value: Given) -> tuple[Weights, Promise | None]:
    """Find the weights that are meant, and what they promise if an outcome was asked for."""
    objectives = list(source.objectives)
    try:
        if isinstance(value, str) and value in source.preferences:
            value = source.preferences[value]
        if is_outcome(value):
            promise = solve(read_outcome(value, objectives), source.front, method)
            return promise.preference, promise
        if isinstance(value, str):
            value = parse_weights(value, sorted(source.preferences))
        if faults := preference_faults(value, objectives):
            raise ValueError(f"preference {shown(value)}: " + "; ".join(faults))
    except Unreachable as error:
        raise ApiError(400, str(error), place, "unreachable_outcome") from None
    except ValueError as error:
        raise ApiError(400, str(error), place, "invalid_preference") from None
    return {name: float(value[name]) for name in objectives}, None


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
