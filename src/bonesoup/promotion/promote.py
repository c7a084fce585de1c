"""Promotion: score challenger and champion on the current yardstick, apply the rule, move the alias or say why not."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace

from mlflow.entities.model_registry import ModelVersion

from bonesoup.evaluation.samples import Front
from bonesoup.method.methods import BASELINE
from bonesoup.promotion import champion
from bonesoup.promotion.champion import KEPT, PROMOTE, PROMOTED, REFUSED, Decision, name_of
from bonesoup.promotion.rule import Check, Rule, judge
from bonesoup.promotion.scoring import Machine, Scored, check_objectives, score
from bonesoup.registry import yardstick
from bonesoup.registry.manifest import Files, inspect
from bonesoup.registry.store import Store
from bonesoup.registry.versions import find, newest_soup, reference, soup_name
from bonesoup.registry.yardstick import Yardstick


@dataclass(frozen=True, eq=False)
class Case:
    """The facts that decide a promotion; those the decision does not need are None.

    Attributes:
        champion: the present champion, if there is one.
        incomparable: reason why the yardstick cannot measure one of the two.
        scores: of the challenger and, if there is one, of the champion.
    """

    challenger: ModelVersion
    champion: ModelVersion | None
    yardstick: Yardstick | None = None
    incomparable: str | None = None
    files: Files | None = None
    scores: list[Scored] | None = None


def promote(
    store: Store,
    uri: str,
    prefix: str,
    rule: Rule,
    text: str | None,
    machine: Machine,
    echo: Callable[[str], None],
    force: bool = False,
    reason: str | None = None,
    dry_run: bool = False,
) -> Decision:
    """Decide whether a soup version becomes the champion, and make it so.

    Args:
        uri: of the store, whose lock is held meanwhile.
        text: the version; None is the newest soup.
        force: promote although checks fail; needs a reason. It cannot override missing files.
        dry_run: decide, but move and record nothing.

    Raises:
        ValueError: no such version, not a soup, no yardstick, no run to record scores in, or force without a reason.
    """
    if force and not (reason or "").strip():
        raise ValueError("--force needs a --reason: it is recorded instead of the checks")
    with nullcontext() if dry_run else champion.turn(uri):
        case = gather(store, prefix, text, machine, echo, force, record=not dry_run)
        decision = decide(case, rule, force, reason, yardstick.now())
        if dry_run:
            return replace(decision, dry_run=True)
        if decision.verdict == KEPT:
            # An interrupted promotion may have left them behind.
            return replace(decision, merged=champion.align_merged(store, prefix, case.challenger))
        if decision.incumbent:
            echo(f"{decision.version}: judged against {decision.incumbent}")
        if decision.verdict == REFUSED:
            champion.record(store, case.challenger, decision)
            return decision
        return champion.carry_out(store, prefix, decision, case.challenger, case.champion, echo)


def gather(
    store: Store,
    prefix: str,
    text: str | None,
    machine: Machine,
    echo: Callable[[str], None],
    force: bool,
    record: bool,
) -> Case:
    """Collect what the decision needs, up to the first thing that no score can change."""
    case = Case(challenger_of(store, prefix, text), champion.current(store, prefix))
    name = reference(case.challenger)
    if name_of(case.champion) == name:
        return case
    case = replace(case, yardstick=yardstick.load(store, prefix, machine.work))
    both = [version for version in (case.challenger, case.champion) if version]
    try:
        for version in both:
            check_objectives(version, case.yardstick)
    except ValueError as error:
        note = f"{error}. If it is the champion that differs, `bonesoup demote` takes its alias away"
        return replace(case, incomparable=note)
    echo(f"{name}: checking its files")
    case = replace(case, files=inspect(store, case.challenger, machine.work))
    if not _whole(case.files).passed and (case.files.missing or not force):
        # Scores of damaged files would be meaningless.
        return case
    return replace(case, scores=score(store, both, case.yardstick, machine, echo, record))


def decide(case: Case, rule: Rule, force: bool, reason: str | None, time: str) -> Decision:
    """Apply the rule to a case; pure.

    Raises:
        ValueError: the rule asks for a metric or unit that the yardstick does not give.
    """
    name, before = reference(case.challenger), name_of(case.champion)
    if name == before:
        return Decision(PROMOTE, name, KEPT, time, before=name, after=name)
    refused = Decision(PROMOTE, name, REFUSED, time, before, before, reason=reason, yardstick=case.yardstick.digest)
    if case.incomparable:
        # `--force` cannot help: there is nothing to measure.
        return replace(refused, note=case.incomparable)
    whole = _whole(case.files)
    note = None if whole.passed else _damage(case.files)
    if case.scores is None:
        return replace(refused, checks=(whole,), note=note)
    challenger, *others = case.scores
    incumbent, front = _incumbent(challenger, others)
    checks, unit = [whole, _committed(case.challenger)], None
    if front is None:
        demand = "a Rewarded Soup of the same run, as there is no champion"
        checks.append(Check("something to be judged against", False, demand))
    else:
        unit, judged = judge(challenger, front, case.yardstick, rule)
        checks += judged
    passed = all(check.passed for check in checks)
    decision = replace(
        refused,
        incumbent=incumbent,
        unit=unit,
        checks=tuple(checks),
        forced=force and not passed,
        note=note,
        rule=rule.model_dump(by_alias=True),
    )
    return replace(decision, verdict=PROMOTED, after=name) if passed or force else decision


def challenger_of(store: Store, prefix: str, text: str | None) -> ModelVersion:
    """Look up the version to promote; the newest soup if none is named.

    Raises:
        ValueError: there is no such version, or it is not a steerable soup.
    """
    model = soup_name(prefix)
    if text is None:
        return newest_soup(store.client, prefix)
    version = find(store.client, text, model)
    if version.name != model:
        raise ValueError(
            f"{reference(version)} is not promoted by itself: name a version of {model}, and the merged models of its "
            "run go with it"
        )
    return version


def _incumbent(challenger: Scored, others: list[Scored]) -> tuple[str | None, Front | None]:
    """Return the challenger's opponent: the champion, or the Rewarded Soup of the challenger's run."""
    if others:
        return others[0].name, others[0].front
    front = challenger.fronts.get(BASELINE)
    return (f"the Rewarded Soup of {challenger.name}" if front else None), front


def _whole(files: Files) -> Check:
    """Check that the stored files are still the ones that were scored."""
    demand = "every file there, with the SHA-256 that it was registered with"
    if not files.listed:
        demand = "a list of files in the registry (tag `manifest`), which a version of this release has"
    return Check("files are as registered", files.listed and not files.faults, demand)


def _damage(files: Files) -> str:
    if files.missing:
        return f"Not all of it is in the store ({files.text}), and no force helps: name another version"
    if files.faults:
        return f"In the store it is damaged: {files.text}"
    return "It was registered without a list of its files, so damage to them would not show"


def _committed(version: ModelVersion) -> Check:
    """Check that a commit holds the version's code, so that the version can be made again."""
    committed = version.tags.get("git_dirty") != "true"
    return Check("code is committed", committed, "no uncommitted changes when it was made")
