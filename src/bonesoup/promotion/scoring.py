"""Score registered versions on a yardstick, once: existing scores are read back from the version's run."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow.entities.model_registry import ModelVersion

from bonesoup.data.new_prompts import outside_the_task, read_prompts
from bonesoup.evaluation import compare, point
from bonesoup.evaluation.samples import Front, check_prompts, read_front, shared_units
from bonesoup.evaluation.statistics import Estimate
from bonesoup.method.methods import BASELINE
from bonesoup.registry import runs, scores, yardstick
from bonesoup.registry.scores import BESIDE, Evidence, key_of
from bonesoup.registry.store import Store
from bonesoup.registry.versions import CHAMPION, aliased, find, newest_soup, reference, soup_name
from bonesoup.registry.yardstick import Yardstick

KINDS = ("soup", "merged", "backbone")


@dataclass(frozen=True)
class Machine:
    """The settings for running versions: device, rows at a time, and a folder for downloads."""

    device: str
    batch: int
    work: Path


@dataclass(frozen=True, eq=False)
class Scored:
    """A version's scores on one yardstick.

    Attributes:
        method: the version's method; a steerable soup also has the fronts of `rewarded` and `sft`.
        preference: the only preference it answers; None for a steerable soup.
        new: the methods scored in this call.
    """

    version: ModelVersion
    method: str
    preference: tuple[float, ...] | None
    fronts: dict[str, Front]
    evidence: dict[str, Evidence]
    new: tuple[str, ...]

    @property
    def name(self) -> str:
        return reference(self.version)

    @property
    def front(self) -> Front:
        return self.fronts[self.method]


def evaluate(
    store: Store,
    prefix: str,
    texts: list[str],
    prompts: Path | None,
    machine: Machine,
    echo: Callable[[str], None],
) -> dict[str, Any]:
    """Score versions on the current yardstick, or its judges on new prompts; returns plain data.

    Args:
        texts: references; none means the champion and the newest soup.
        prompts: file of new prompts.

    Raises:
        ValueError: no such version or yardstick, bad lines in the file, or other objectives.
    """
    chosen = [find(store.client, text, soup_name(prefix)) for text in texts] or _default(store, prefix)
    measure = yardstick.load(store, prefix, machine.work)
    missing = None
    if prompts:
        rows = read_prompts(prompts)
        missing = outside_the_task(rows, measure.tables) if measure.tables else None
        if missing:
            echo(f"the true score is left out, as it is not known for every prompt: {missing}")
        measure = measure.on(rows, gold=missing is None)
    scored = score(store, chosen, measure, machine, echo, source=prompts.name if prompts else None)
    return {
        "yardstick": measure.digest,
        "prompts": len(measure.prompts),
        "file": prompts.name if prompts else None,
        "gold_left_out": missing,
        "confidence": measure.confidence,
        "versions": [_plain(version) for version in scored],
    }


def _default(store: Store, prefix: str) -> list[ModelVersion]:
    newest = newest_soup(store.client, prefix)
    champion = aliased(store.client, soup_name(prefix), CHAMPION)
    return [newest] if champion is None or reference(champion) == reference(newest) else [champion, newest]


def _plain(scored: Scored) -> dict[str, Any]:
    names = scored.front.objectives
    return {
        "version": scored.name,
        "kind": scored.version.tags["kind"],
        "method": scored.method,
        "preference": dict(zip(names, scored.preference, strict=True)) if scored.preference else None,
        "new": list(scored.new),
        "methods": scored.evidence,
    }


def score(
    store: Store,
    versions: list[ModelVersion],
    yardstick: Yardstick,
    machine: Machine,
    echo: Callable[[str], None],
    record: bool = True,
    source: str | None = None,
) -> list[Scored]:
    """Score each version's method and, for a steerable soup, also its Rewarded Soup and SFT policy.

    Args:
        echo: called with each line of progress.
        record: write new scores to the versions.
        source: name of the file with the prompts; None if they are the yardstick's.

    Raises:
        ValueError: a version has other objectives or no run to record scores in, a prompt does not fit a model, or a
            judge has changed.
    """
    for version in versions:
        check_objectives(version, yardstick)
        # Without a Rewarded Soup, a soup is complete without its scores.
        if record and version.tags["method"] not in scores.scored(version, yardstick.digest):
            runs.check_writable(store, version)
    return [_score(store, version, yardstick, machine, echo, record, source) for version in versions]


def check_objectives(version: ModelVersion, yardstick: Yardstick) -> None:
    """Make sure that the yardstick measures what the version is about.

    Raises:
        ValueError: it does not.
    """
    if version.tags.get("kind") not in KINDS:
        raise ValueError(f"{reference(version)} is none of {', '.join(KINDS)}: it cannot be scored")
    objectives = tuple(version.tags["objectives"].split(","))
    if objectives != yardstick.objectives:
        raise ValueError(
            f"{reference(version)} is about {', '.join(objectives)}, the yardstick {yardstick.digest} about "
            f"{', '.join(yardstick.objectives)}: nothing compares them. `bonesoup yardstick --adopt` makes the "
            "present pipeline's the current one"
        )


def _wanted(version: ModelVersion) -> list[str]:
    method = version.tags["method"]
    return list(dict.fromkeys([method, *BESIDE])) if version.tags["kind"] == "soup" else [method]


def _score(
    store: Store,
    version: ModelVersion,
    yardstick: Yardstick,
    machine: Machine,
    echo: Callable[[str], None],
    record: bool,
    source: str | None,
) -> Scored:
    digest, method = yardstick.digest, version.tags["method"]
    wanted, done = _wanted(version), scores.scored(version, digest)
    files = {name: scores.samples(version, digest, name, machine.work) for name in wanted if name in done}
    new = []
    if len(files) < len(wanted):
        # Imported here: torch takes seconds, and most calls have nothing left to score.
        from bonesoup.promotion import sampling

        recipes = sampling.read_recipes(version, machine.work)
        for name in wanted:
            if name in files or name not in recipes:
                continue
            echo(f"{reference(version)}: scoring {name} on {len(yardstick.prompts)} prompts (yardstick {digest})")
            files[name] = machine.work / f"{version.name}-{version.version}-{name}.parquet"
            rows = sampling.run(recipes[name], yardstick, machine.device, machine.batch)
            rows.to_parquet(files[name], index=False)
            new.append(name)
    fronts = {name: read_front(path, name, yardstick.objectives) for name, path in files.items()}
    check_prompts(list(fronts.values()))
    preference = None if version.tags["kind"] == "soup" else tuple(fronts[method].preferences[0].tolist())
    if new:
        evidence = measured(fronts, yardstick, preference, kl=version.tags["kind"] != "merged")
    else:
        evidence = scores.evidence(version, digest)
    if new and record:
        scores.upload(store, version.run_id, digest, {name: files[name] for name in new}, evidence)
        scores.mark(store, version, digest, list(files), evidence[method])
        if source:
            store.client.set_model_version_tag(version.name, version.version, f"prompts/{digest}", source)
    return Scored(version, method, preference, fronts, evidence, tuple(new))


def measured(
    fronts: dict[str, Front], yardstick: Yardstick, preference: tuple[float, ...] | None, kl: bool
) -> dict[str, Evidence]:
    """Return metrics with intervals by method: of the whole grid, or at the one preference that a version answers.

    Args:
        kl: the rows have a meaningful KL; merged weights have no SFT policy to measure it to.
    """
    named: dict[str, dict[str, Estimate]] = {method: {} for method in fronts}
    if preference is None:
        (block, *_) = evaluate_fronts(list(fronts.values()), yardstick).blocks
        for unit in shared_units(list(fronts.values())):
            for method, metrics in block.metrics[unit].items():
                named[method] |= {key_of(unit, metric): estimate for metric, estimate in metrics.items()}
    else:
        for method, front in fronts.items():
            for unit in front.units:
                estimates = point.estimates(front, preference, unit, yardstick.statistics)
                named[method] |= {key_of(unit, m): e for m, e in estimates.items() if kl or m != "kl"}
    return {method: {name: e.plain() for name, e in sorted(metrics.items())} for method, metrics in named.items()}


def evaluate_fronts(fronts: list[Front], yardstick: Yardstick, baseline: str = BASELINE) -> compare.Results:
    """Compute metrics and paired differences by the yardstick's statistics."""
    return compare.evaluate(fronts, yardstick.references, yardstick.interior, yardstick.statistics, baseline)
