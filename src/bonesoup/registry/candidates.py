"""List what a finished pipeline can register: backbones, the steerable soup, merged soups."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from bonesoup import __version__
from bonesoup.evaluation.chosen import chosen_method
from bonesoup.evaluation.samples import read_front
from bonesoup.evaluation.statistics import Statistics, resampled_means
from bonesoup.files import digest, file_digest, read_json
from bonesoup.generation.soup import Soup, mixed
from bonesoup.method.methods import AUTO, BASELINE
from bonesoup.paths import CHOICE, FRONTS, SOUPS
from bonesoup.registry.scores import BESIDE, Evidence, key_of, report_evidence
from bonesoup.registry.versions import soup_name
from bonesoup.settings.schema import Register
from bonesoup.weights.fold import fold

CHECKPOINT = "checkpoint"


@dataclass(frozen=True)
class Candidate:
    """A version that could be registered.

    Attributes:
        kind: backbone, soup or merged.
        soup: the soup file of the version, with paths relative to its artifacts.
        folders: adapters, by slot; merged weights are made by `merge`.
        base: SHA-256 of the base, which the registry holds once; None for merged weights.
        default: preference answered if a request has none.
        fixed: the version answers no other preference.
        coefficients: slot -> merging coefficient; empty if they follow from the preference.
        evidence: metrics with intervals.
        rewarded: recipe of the same run's Rewarded Soup, which the steerable soup carries as well.
        fronts: method -> samples of the run's evaluation, for the soup and the methods it is compared with.
        fingerprint: digest of everything the run's versions are made from, so that all of them are new or none.
    """

    name: str
    kind: str
    soup: dict
    folders: dict[str, Path]
    default: dict[str, float]
    fixed: bool
    coefficients: dict[str, float]
    evidence: Evidence
    base: str | None = None
    rewarded: dict | None = None
    fronts: dict[str, Path] = field(default_factory=dict)
    fingerprint: str = ""


def candidates(
    root: Path,
    settings: dict,
    register: Register,
    preferences: dict[str, dict[str, float]],
    yardstick: str | None,
) -> list[Candidate]:
    """List the candidates of the pipeline in `root`; none until the soup to register is made and chosen.

    Args:
        register: the soup to register, its name, and the named preferences to register as merged weights.
        yardstick: digest of the yardstick that the run was evaluated on.
    """
    if register.method == AUTO and not (root / CHOICE).is_file():
        return []
    prefix, method, objectives = register.name, chosen_method(register, root), settings["objectives"]
    if not (root / SOUPS / f"{method}.json").is_file():
        return []
    raw, soup = _recipe(root, method)
    at = _evidence_at(root, method, settings)
    base = file_digest(soup.base)
    adapter_folders = {policy.slot: policy.path for policy in soup.policies}

    def named(row: tuple[float, ...]) -> dict[str, float]:
        return dict(zip(objectives, map(float, row), strict=True))

    listed = []
    for k, (policy, item) in enumerate(zip(soup.policies, raw["policies"], strict=True)):
        if item.get("start"):
            # A correction adds to a soup of others, and is no policy by itself.
            continue
        recipe = raw | {"mapping": "single", "policies": [item], "preferences": [list(policy.row)]}
        folders = {policy.slot: policy.path}
        name = f"{prefix}-{policy.slot}"
        # When extrapolated, or with more policies than objectives, the soup at a backbone's row is not the backbone.
        alone = np.allclose(soup.coefficients(policy.row), np.eye(len(soup.policies))[k], atol=1e-6)
        evidence = at(policy.row) if alone else {}
        listed.append(Candidate(name, "backbone", recipe, folders, named(policy.row), True, {}, evidence, base))

    even = dict.fromkeys(objectives, 1 / len(objectives))
    folders, rewarded = dict(adapter_folders), None
    if method != BASELINE and BASELINE in settings["methods"] and (root / SOUPS / f"{BASELINE}.json").is_file():
        rewarded, specialists = _recipe(root, BASELINE)
        folders |= {policy.slot: policy.path for policy in specialists.policies}
    evidence = report_evidence(root, method)
    fronts = {m: root / FRONTS / m / "samples.parquet" for m in (method, *BESIDE) if m in settings["methods"]}
    fronts = {m: path for m, path in fronts.items() if path.is_file()}
    name = soup_name(prefix)
    listed.append(Candidate(name, "soup", raw, folders, even, False, {}, evidence, base, rewarded, fronts))
    for name in register.merged:
        row = tuple(float(preferences[name][objective]) for objective in objectives)
        slots = dict(zip(adapter_folders, soup.coefficients(row).tolist(), strict=True))
        recipe = raw | {"base": CHECKPOINT, "mapping": "none", "policies": [], "preferences": [list(row)]}
        listed.append(Candidate(f"{prefix}-merged-{name}", "merged", recipe, {}, named(row), True, slots, at(row)))
    # Digest the weights alone: PEFT writes the module names of adapter_config.json in any order.
    weights = [base, [policy["digest"] for policy in raw["policies"]], rewarded]
    answers = [settings["generation"], preferences, __version__]
    judged = [yardstick, {m: file_digest(path) for m, path in fronts.items()}, evidence]
    return [
        replace(c, fingerprint=digest(c.name, c.soup, c.coefficients, c.evidence, weights, answers, judged))
        for c in listed
    ]


def _recipe(root: Path, method: str) -> tuple[dict, Soup]:
    """Read a soup file twice: with the paths it has in a version, each adapter at its slot; and as it is in out/."""
    file = root / SOUPS / f"{method}.json"
    raw, soup = read_json(file), Soup.read(file, root)
    policies = [item | {"path": item["slot"]} for item in raw["policies"]]
    return raw | {"base": soup.base.name, "policies": policies}, soup


def merge(root: Path, method: str, coefficients: dict[str, float], out: Path) -> None:
    """Fold a method's soup at these coefficients into plain weights in `out`."""
    soup = Soup.read(root / SOUPS / f"{method}.json", root)
    fold(soup.base, mixed(soup, [coefficients[policy.slot] for policy in soup.policies]), out)


def _evidence_at(root: Path, method: str, settings: dict) -> Callable[[Any], Evidence]:
    """Return a function that maps a preference [objective] to the soup's mean scores; empty off the evaluation grid."""
    file = root / FRONTS / method / "samples.parquet"
    if not file.is_file():
        return lambda preference: {}
    objectives, evaluation = settings["objectives"], settings["evaluation"]
    front = read_front(file, method, objectives)
    statistics = Statistics(evaluation["bootstrap"], evaluation["confidence"], settings["seed"])
    weights = statistics.weights(len(front.prompts))

    def at(preference) -> Evidence:
        same = np.isclose(front.preferences, preference, atol=1e-6).all(axis=1)
        if not same.any():
            return {}
        point = same.argmax()
        columns = {"kl": front.kl[:, point], "tokens": front.tokens[:, point]}
        for unit in front.units:
            scores = front.scores(unit)
            columns |= {key_of(unit, name): scores[:, point, i] for i, name in enumerate(objectives)}
        return {
            name: statistics.estimate(resampled_means(weights, values)).plain()
            for name, values in sorted(columns.items())
        }

    return at
