"""From a request's model name and preference or adapters' weights to coefficients, and the scores to expect there."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from bonesoup.evaluation.outcomes import Promise, Unreachable, is_outcome, read_outcome, solve
from bonesoup.generation.soup import Soup
from bonesoup.method.preferences import adapter_faults, format_weights, parse_weights, preference_faults
from bonesoup.serving.errors import ApiError, quoted
from bonesoup.serving.protocol import Steered
from bonesoup.serving.replies import Weights
from bonesoup.serving.source import Source

# Weights, an outcome, either as text, or the name of a preference or mixture.
Given = Weights | dict[str, str] | str


@dataclass(frozen=True)
class Asked:
    """The steering that a request asks for.

    Attributes:
        over: the weighted things: `objectives` make a preference; weights of `adapters` are coefficients.
        promise: the scores measured there, if an outcome was requested.
    """

    over: Literal["objectives", "adapters"]
    weights: Weights
    promise: Promise | None = None

    def agrees(self, other: "Asked") -> bool:
        """Return True if the other asks for the same."""
        names = self.weights.keys() | other.weights.keys()
        return self.over == other.over and all(
            abs(self.weights.get(name, 0.0) - other.weights.get(name, 0.0)) <= 1e-6 for name in names
        )


@dataclass(frozen=True)
class Choice:
    """A model at a preference, or with weights of its adapters.

    Attributes:
        method: of the soup that answers, as in `Source.soups`.
        preference: weights, in the order of the source's objectives; None if adapters' weights were given.
        coefficients: lambda by policy.
        promise: what was measured there; None if the preference was not asked for by outcome.
    """

    method: str
    soup: Soup
    preference: Weights | None
    coefficients: Weights
    promise: Promise | None = None

    @property
    def steered(self) -> dict:
        """Return the part of an answer that reports the steering."""
        asked = {} if self.preference is None else {"preference": self.preference}
        outcome = {"outcome": self.promise.plain()} if self.promise else {}
        return asked | {"coefficients": self.coefficients} | outcome


def choose(source: Source, model: str, *given: tuple[str, Given | None]) -> Choice:
    """Resolve a model's name and the preferences or weights of one request, which must agree; the default without any.

    Args:
        model: 'NAME', 'NAME/rewarded', or 'NAME@careful' and 'NAME@helpful:0.7+harmless:0.3', and the same with the
            name of a mixture or adapters' weights.
        given: (place in the request, value). Weights in `adapters` are of adapters, all others of objectives.

    Raises:
        ApiError: 404 for an unknown model, 400 for a preference or weights that are wrong, or two that differ, or an
            outcome that cannot be promised.
    """
    name, at, suffix = model.partition("@")
    method = method_of(source, name)
    soup = source.soups[method]
    places = [(place, value) for place, value in (*given, ("model", suffix if at else None)) if value is not None]
    default = Asked("objectives" if source.objectives else "adapters", source.default)
    asked = [(place, _asked(source, method, place, value)) for place, value in places] or [("default", default)]
    first, chosen = asked[0]
    for place, other in asked[1:]:
        if not chosen.agrees(other):
            one, two = format_weights(chosen.weights), format_weights(other.weights)
            text = f"{first} asks for {one} and {place} for {two}: give one of them"
            raise ApiError(400, text, first, "invalid_preference")
    if chosen.over == "adapters":
        weights = {policy.slot: chosen.weights.get(policy.slot, 0.0) for policy in soup.policies}
        return Choice(method, soup, None, weights)
    preference = {name: float(chosen.weights[name]) for name in source.objectives}
    values = soup.coefficients(list(preference.values()))
    coefficients = {policy.slot: float(value) for policy, value in zip(soup.policies, values, strict=True)}
    promise = next((each.promise for _, each in asked if each.promise), None)
    return Choice(method, soup, preference, coefficients, promise)


def choose_all(source: Source, body: Steered, header: str | None) -> list[Choice]:
    """Resolve the choices of a request: one, or one for each of its `preferences`.

    Args:
        header: the preference in the request's headers.
    """
    single = (("preference", body.preference), ("adapters", body.adapters), ("X-Bonesoup-Preference", header))
    if not body.preferences:
        return [choose(source, body.model, *single)]
    if any(value is not None for _, value in single) or "@" in body.model:
        raise ApiError(400, "give one preference or a list of preferences, not both", "preferences")
    return [choose(source, body.model, (f"preferences.{i}", value)) for i, value in enumerate(body.preferences)]


def method_of(source: Source, name: str) -> str:
    """Find the method that a model's name, without preference, asks for.

    Raises:
        ApiError: 404, no such model.
    """
    for method, known in source.models.items():
        if name == known:
            return method
    raise ApiError(404, f"no model {quoted(name)}: {', '.join(source.models.values())}", "model", "model_not_found")


def _asked(source: Source, method: str, place: str, value: Given) -> Asked:
    """Read the steering from one place of a request.

    Raises:
        ApiError: 400.
    """
    adapters = [policy.slot for policy in source.soups[method].policies]
    try:
        asked = Asked("adapters", value) if place == "adapters" else _read(source, method, adapters, value)
        if asked.over == "adapters":
            if asked.weights and not adapters:
                raise ValueError(f"{source.models[method]} is the base alone: it has no adapters")
            faults = adapter_faults(asked.weights, adapters)
        elif not source.objectives:
            raise ValueError(
                f"{source.name} knows no objectives, only adapters: give their weights, such as "
                f'"adapters": {{"{adapters[0]}": 1}}'
            )
        else:
            faults = preference_faults(asked.weights, list(source.objectives))
        if faults:
            what = "preference" if asked.over == "objectives" else "adapters"
            raise ValueError(f"{what} {format_weights(asked.weights)}: " + "; ".join(faults))
    except Unreachable as error:
        raise ApiError(400, str(error), place, "unreachable_outcome") from None
    except ValueError as error:
        raise ApiError(400, str(error), place, "invalid_preference") from None
    return asked


def _read(source: Source, method: str, adapters: list[str], value: Given) -> Asked:
    """Read a name, weights or an outcome; text weighs objectives unless one of its names is only an adapter's."""
    if isinstance(value, str) and value in source.presets:
        return Asked("adapters", source.presets[value])
    if isinstance(value, str) and value in source.preferences:
        value = source.preferences[value]
    if source.objectives and is_outcome(value):
        promise = solve(read_outcome(value, list(source.objectives)), source.front, method)
        return Asked("objectives", promise.preference, promise)
    if not isinstance(value, str):
        return Asked("objectives", value)
    known = [*sorted(source.preferences), *source.presets]
    try:
        weights = parse_weights(value, known)
    except ValueError:
        if source.objectives:
            raise
        raise ValueError(
            f"{value!r} is neither an adapter or preset ({', '.join(known)}) nor of the form calm=1.4,bold=-0.4"
        ) from None
    names = weights.keys() - set(source.objectives)
    return Asked("adapters" if names & set(adapters) or not source.objectives else "objectives", weights)


def expected(source: Source, choice: Choice) -> dict | None:
    """Look up the method's scores at the measured preference nearest to this one, or between two of two objectives.

    Returns:
        {"mean", "low", "high": [objective], "from": "measured", "interpolated" or "nearest"}, or None if nothing was
        measured. Interpolated bounds do not cover a curve that bends between measured points.
    """
    points = (source.front or {"methods": {}})["methods"].get(choice.method)
    if not points or choice.preference is None:
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
