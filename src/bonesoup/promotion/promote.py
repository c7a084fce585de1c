"""Promotion: score champion and challenger on the current yardstick, apply the rule, move the alias or say why not."""

from collections.abc import Callable
from dataclasses import replace

from mlflow.entities.model_registry import ModelVersion

from bonesoup.evaluation.samples import Front
from bonesoup.method.methods import BASELINE
from bonesoup.promotion import champion
from bonesoup.promotion.champion import KEPT, PROMOTED, REFUSED, Decision, name_of
from bonesoup.promotion.judge import Check, judge
from bonesoup.promotion.rule import Rule
from bonesoup.promotion.scoring import Machine, Scored, check_objectives, score
from bonesoup.registry import adoption, intact
from bonesoup.registry.intact import Files
from bonesoup.registry.names import find, reference, soup_name, versions
from bonesoup.registry.store import Store
from bonesoup.registry.yardstick import Yardstick


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
        uri: of the store, which the lock is kept for.
        text: the version; None is the newest soup.
        force: promote although checks fail; needs a reason. Missing files it does not overrule.
        dry_run: decide, but move and record nothing.

    Raises:
        ValueError: no such version, no soup, no yardstick, other objectives than the yardstick's, or force without
            a reason.
    """
    if force and not (reason or "").strip():
        raise ValueError("--force needs a --reason: it is what stands in the record instead of the checks")
    if dry_run:
        decision, challenger, before = _decide(store, prefix, rule, text, machine, echo, force, reason, record=False)
        return replace(decision, dry_run=True)
    with champion.turn(uri):
        decision, challenger, before = _decide(store, prefix, rule, text, machine, echo, force, reason, record=True)
        if decision.verdict == KEPT:
            # A promotion that was cut short may have left them behind.
            return replace(decision, merged=champion.align_merged(store, prefix, challenger))
        if decision.incumbent:
            echo(f"{decision.version}: judged against {decision.incumbent}")
        if decision.verdict == REFUSED:
            champion.record(store, challenger, decision)
            return decision
        champion.remember(store, challenger, before)
        decision = champion.carry_out(store, prefix, decision, challenger, before, echo)
        if decision.verdict == PROMOTED:
            champion.settle(store, prefix)
        else:
            champion.forget(store, challenger)
        return decision


def _decide(
    store: Store,
    prefix: str,
    rule: Rule,
    text: str | None,
    machine: Machine,
    echo: Callable[[str], None],
    force: bool,
    reason: str | None,
    record: bool,
) -> tuple[Decision, ModelVersion, ModelVersion | None]:
    """(decision, challenger, champion)."""
    challenger = challenger_of(store, prefix, text)
    name, time = reference(challenger), adoption.now()
    before = champion.current(store, prefix)
    if name_of(before) == name:
        return Decision("promote", name, KEPT, time, before=name, after=name), challenger, before
    held = adoption.current(store, prefix)
    if held is None:
        raise ValueError(
            f"{prefix} has no yardstick to judge by: `bonesoup register` adopts the first, and `bonesoup yardstick "
            "--adopt` another"
        )
    yardstick = adoption.load(held, machine.work / "yardstick")
    if fault := _incomparable(challenger, before, yardstick):
        # No force helps: there is nothing to measure.
        about = {"before": name_of(before), "after": name_of(before), "yardstick": yardstick.digest, "note": fault}
        return Decision("promote", name, REFUSED, time, reason=reason, **about), challenger, before
    echo(f"{name}: looking at its files")
    files = intact.look(store, challenger, machine.work)
    whole = _whole(files)
    if not whole.passed and (files.missing or not force):
        # Not scored: what is damaged answers for nothing.
        about = {"before": name_of(before), "after": name_of(before), "yardstick": yardstick.digest}
        about |= {"checks": (whole,), "note": _damage(files)}
        return Decision("promote", name, REFUSED, time, reason=reason, **about), challenger, before
    both = [challenger, *([before] if before else [])]
    mine, *theirs = score(store, both, yardstick, machine, echo, record)
    incumbent, front = _incumbent(mine, theirs)
    checks = [whole, _clean(challenger)]
    unit = None
    if front is None:
        demand = "a Rewarded Soup of its own run, where there is no champion"
        checks.append(Check("something to be judged against", False, demand))
    else:
        unit, found = judge(mine, front, yardstick, rule)
        checks += found
    passed = all(check.passed for check in checks)
    decision = Decision(
        "promote",
        name,
        PROMOTED if passed or force else REFUSED,
        time,
        before=name_of(before),
        after=name if passed or force else name_of(before),
        reason=reason,
        incumbent=incumbent,
        yardstick=yardstick.digest,
        unit=unit,
        checks=tuple(checks),
        forced=force and not passed,
        note=None if whole.passed else _damage(files),
        rule=rule.model_dump(by_alias=True),
    )
    return decision, challenger, before


def challenger_of(store: Store, prefix: str, text: str | None) -> ModelVersion:
    """The version to promote; the newest soup where none is named.

    Raises:
        ValueError: there is none, or it is no steerable soup.
    """
    model = soup_name(prefix)
    if text is None:
        have = versions(store.client, model)
        if not have:
            raise ValueError(f"the registry has no version of {model}; `bonesoup register` sends the present run's")
        return have[-1]
    found = find(store.client, text, model)
    if found.name != model:
        raise ValueError(
            f"{reference(found)} is not promoted by itself: name a version of {model}, and the merged models of its "
            "run go with it"
        )
    # With its aliases and tags, as a search may leave some out.
    return store.client.get_model_version(found.name, str(found.version))


def _incomparable(challenger: ModelVersion, before: ModelVersion | None, yardstick: Yardstick) -> str | None:
    """Why the yardstick cannot measure one of the two."""
    try:
        check_objectives(challenger, yardstick)
        if before:
            check_objectives(before, yardstick)
    except ValueError as error:
        return f"{error}. Where it is the champion that differs, `bonesoup demote` takes its alias away"
    return None


def _incumbent(mine: Scored, theirs: list[Scored]) -> tuple[str | None, Front | None]:
    """What the challenger is judged against: the champion, or the Rewarded Soup of its own run."""
    if theirs:
        return theirs[0].name, theirs[0].front
    front = mine.fronts.get(BASELINE)
    return (f"the Rewarded Soup of {mine.name}" if front else None), front


def _whole(files: Files) -> Check:
    """Scores are those of the files as they were; what is served is what lies there now."""
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


def _clean(version: ModelVersion) -> Check:
    """Code that no commit holds cannot be made again."""
    return Check(
        "code is committed", version.tags.get("git_dirty") != "true", "no uncommitted changes when it was made"
    )
