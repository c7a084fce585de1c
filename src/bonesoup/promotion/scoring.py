"""Score registered versions on a yardstick, once: what is scored already is read back from the version's run."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mlflow.entities.model_registry import ModelVersion

from bonesoup.evaluation import compare, point
from bonesoup.evaluation.samples import Front, check_prompts, read_front, shared_units
from bonesoup.evaluation.statistics import Estimate
from bonesoup.method.methods import BASELINE
from bonesoup.registry import scores
from bonesoup.registry.evidence import BESIDE, Evidence
from bonesoup.registry.names import reference
from bonesoup.registry.store import Store
from bonesoup.registry.yardstick import Yardstick

KINDS = ("soup", "merged", "backbone")


@dataclass(frozen=True)
class Machine:
    """Where and how versions are run: device, rows at a time, and a folder for what is downloaded."""

    device: str
    batch: int
    work: Path


@dataclass(frozen=True, eq=False)
class Scored:
    """A version's scores on one yardstick.

    Attributes:
        method: its own; a steerable soup has the fronts of `rewarded` and `sft` beside it.
        preference: the only one it answers; None for a steerable soup.
        new: the methods that were scored in this call.
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


def score(
    store: Store,
    versions: list[ModelVersion],
    yardstick: Yardstick,
    machine: Machine,
    echo: Callable[[str], None],
    record: bool = True,
    source: str | None = None,
) -> list[Scored]:
    """The scores of each version: its own method and, for a steerable soup, Rewarded Soup and SFT policy beside it.

    Args:
        echo: called with each line of progress.
        record: write new scores to the versions.
        source: the file that the prompts were read from, where they are not the yardstick's own.

    Raises:
        ValueError: a version of other objectives, a prompt that does not fit a model, a judge that has changed.
    """
    for version in versions:
        check_objectives(version, yardstick)
    return [_score(store, version, yardstick, machine, echo, record, source) for version in versions]


def check_objectives(version: ModelVersion, yardstick: Yardstick) -> None:
    """Raises ValueError where the two are not about the same things."""
    if version.tags.get("kind") not in KINDS:
        raise ValueError(f"{reference(version)} is none of {', '.join(KINDS)}: it cannot be scored")
    own = tuple(version.tags["objectives"].split(","))
    if own != yardstick.objectives:
        raise ValueError(
            f"{reference(version)} is about {', '.join(own)}, the yardstick {yardstick.digest} about "
            f"{', '.join(yardstick.objectives)}: nothing compares them. `bonesoup yardstick --adopt` makes the "
            "present pipeline's the current one"
        )


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
    steerable = version.tags["kind"] == "soup"
    wanted = [method, *BESIDE] if steerable else [method]
    known = [name for name in wanted if name in scores.scored(version, digest)]
    files = {name: scores.samples(version, digest, name, machine.work) for name in known}
    new = []
    if len(known) < len(wanted):
        # Imported here: torch takes seconds, and most calls find everything scored.
        from bonesoup.promotion import sampling

        recipes = sampling.read_recipes(version, machine.work)
        for name in wanted:
            if name in known or name not in recipes:
                continue
            echo(f"{reference(version)}: scoring {name} on {len(yardstick.prompts)} prompts (yardstick {digest})")
            files[name] = machine.work / f"{version.name}-{version.version}-{name}.parquet"
            rows = sampling.run(recipes[name], yardstick, machine.device, machine.batch)
            rows.to_parquet(files[name], index=False)
            new.append(name)
    fronts = {name: read_front(path, name, yardstick.objectives) for name, path in files.items()}
    check_prompts(list(fronts.values()))
    preference = None if steerable else tuple(fronts[method].preferences[0].tolist())
    if new:
        found = measured(fronts, yardstick, preference, kl=version.tags["kind"] != "merged")
    else:
        found = scores.evidence(version, digest)
    if new and record:
        scores.upload(store, version.run_id, digest, {name: files[name] for name in new}, found)
        scores.mark(store, version, digest, list(files), found[method])
        if source:
            store.client.set_model_version_tag(version.name, version.version, f"prompts/{digest}", source)
    return Scored(version, method, preference, fronts, found, tuple(new))


def measured(
    fronts: dict[str, Front], yardstick: Yardstick, preference: tuple[float, ...] | None, kl: bool
) -> dict[str, Evidence]:
    """Metrics with intervals by method: of the whole grid, or at the one preference that a version answers.

    Args:
        kl: whether the rows' KL means something; merged weights bring no SFT policy to measure it to.
    """
    found: dict[str, dict[str, Estimate]] = {}
    if preference is None:
        (block, *_) = evaluate(list(fronts.values()), yardstick).blocks
        for unit in shared_units(list(fronts.values())):
            for method, metrics in block.metrics[unit].items():
                found.setdefault(method, {}).update(_named(unit, metrics))
    else:
        for method, front in fronts.items():
            for unit in shared_units([front]):
                own = _named(unit, point.estimates(front, preference, unit, yardstick.statistics))
                found.setdefault(method, {}).update({k: v for k, v in own.items() if kl or k != "kl"})
    return {method: {name: e.plain() for name, e in sorted(own.items())} for method, own in found.items()}


def _named(unit: str, metrics: dict[str, Estimate]) -> dict[str, Estimate]:
    # KL and length are of the responses, whoever scores them.
    return {name if name in ("kl", "tokens") else f"{unit}/{name}": e for name, e in metrics.items()}


def evaluate(fronts: list[Front], yardstick: Yardstick, baseline: str = BASELINE) -> compare.Results:
    """Metrics and paired differences by the yardstick's own statistics."""
    return compare.evaluate(fronts, yardstick.references, yardstick.interior, yardstick.statistics, baseline)
