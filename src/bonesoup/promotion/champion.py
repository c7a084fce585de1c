"""The alias `champion`: moved under a lock, read again after the move, every decision left as evidence.

It stands on a version of `<name>-soup` and, with it, on the merged models of the same run. A champion that was demoted
keeps the alias `demoted` until there is another: what `rollback` goes back to. Beside each version lies what was
decided about it: decisions/<time>.json in its run, the last one in short as its tag `decision`.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from mlflow.entities.model_registry import ModelVersion

from bonesoup.files import digest
from bonesoup.locks import exclusive
from bonesoup.promotion.judge import Check
from bonesoup.registry import intact, members
from bonesoup.registry.adoption import now
from bonesoup.registry.names import CHAMPION, aliased, reference, soup_name, versions
from bonesoup.registry.store import Store, database_file, shown

DECISION, PREVIOUS = "decision", "previous_champion"
PROMOTED, REFUSED, LOST, KEPT = "promoted", "refused", "lost the race", "already champion"
# The first is the alias too that a demoted version has while nobody is champion.
DEMOTED, ROLLED_BACK = "demoted", "rolled back"
# What a tag holds in every database that MLflow takes.
TAG_CHARACTERS = 4900
# What stands there while the alias is being moved, and stays if that is cut short.
UNFINISHED = "unfinished"


@dataclass(frozen=True)
class Decision:
    """What was decided about a version, and why.

    Attributes:
        action: promote, demote or rollback.
        verdict: what came of it.
        before: the champion when it was decided; None where there was none.
        after: the champion when it was done.
        incumbent: what the version was judged against.
        forced: failed checks were overruled.
        note: what else there is to say.
        merged: what happened to the merged models, a line each.
    """

    action: str
    version: str
    verdict: str
    time: str
    before: str | None
    after: str | None
    reason: str | None = None
    incumbent: str | None = None
    yardstick: str | None = None
    unit: str | None = None
    checks: tuple[Check, ...] = ()
    forced: bool = False
    dry_run: bool = False
    note: str | None = None
    merged: tuple[str, ...] = ()
    rule: dict | None = None

    def plain(self) -> dict:
        return asdict(self)

    @property
    def short(self) -> str:
        """One line for a tag."""
        failed = [check.name for check in self.checks if not check.passed]
        parts = [f"{self.verdict} {self.time[:10]} {self.time[11:16].replace('-', ':')} UTC"]
        if self.forced:
            parts.append("by force")
        if self.incumbent:
            parts.append(f"against {self.incumbent}")
        if failed:
            parts.append(f"failed: {', '.join(failed)}")
        if self.reason:
            parts.append(f"reason: {self.reason}")
        if self.note:
            parts.append(self.note)
        return "; ".join(parts)


class LostRace(RuntimeError):
    """Somebody else moved the alias; `moved` says whether this process had moved it before."""

    def __init__(self, message: str, moved: bool):
        super().__init__(message)
        self.moved = moved


@contextmanager
def turn(uri: str) -> Iterator[None]:
    """One decision at a time, for all checkouts on this machine that use the store.

    Raises:
        RuntimeError: another one did not end within an hour.
    """
    with ExitStack() as held:
        try:
            held.enter_context(exclusive(lock_file(uri)))
        except TimeoutError as error:
            # Not a failure of the store, which a TimeoutError would be taken for.
            raise RuntimeError(str(error)) from None
        yield


def lock_file(uri: str) -> Path:
    """Beside a sqlite store; for any other in the user's cache."""
    if file := database_file(uri):
        return file.with_name(f"{file.name}.champion.lock")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "bonesoup" / f"champion-{digest(shown(uri))}.lock"


def current(store: Store, prefix: str) -> ModelVersion | None:
    return aliased(store.client, soup_name(prefix), CHAMPION)


def name_of(version: ModelVersion | None) -> str | None:
    return reference(version) if version else None


def record(store: Store, version: ModelVersion, decision: Decision) -> None:
    """Leave a decision with a version."""
    store.client.log_dict(version.run_id, decision.plain(), f"decisions/{decision.time}.json")
    store.client.set_model_version_tag(version.name, version.version, DECISION, decision.short[:TAG_CHARACTERS])


def carry_out(
    store: Store,
    prefix: str,
    decision: Decision,
    target: ModelVersion | None,
    expected: ModelVersion | None,
    echo: Callable[[str], None],
) -> Decision:
    """Move the alias as decided; what came of it, left with every version it is about.

    The evidence is there before the alias moves, so that no move goes without.
    """
    about = {name_of(version): version for version in (target, expected) if version}
    if decision.action == "promote":
        about = {name_of(target): target}
    for version in about.values():
        record(store, version, replace(decision, verdict=UNFINISHED))
    try:
        merged = move(store, prefix, target, expected, echo)
        decision = replace(decision, after=name_of(target), merged=merged)
    except LostRace as lost:
        verdict = LOST if lost.moved else REFUSED
        decision = replace(decision, verdict=verdict, note=str(lost), after=name_of(current(store, prefix)))
    for version in about.values():
        record(store, version, decision)
    return decision


def move(
    store: Store,
    prefix: str,
    target: ModelVersion | None,
    expected: ModelVersion | None,
    echo: Callable[[str], None],
) -> tuple[str, ...]:
    """Give the alias to `target`, or to nobody; what happened to the merged models.

    Args:
        expected: the champion that the decision was made about.

    Raises:
        LostRace: the champion is no longer the expected one, or after the move not the target.
    """
    model, client = soup_name(prefix), store.client
    found = current(store, prefix)
    if name_of(found) != name_of(expected):
        raise LostRace(
            f"the champion of {model} was {name_of(expected) or 'nobody'} when this was decided and is "
            f"{name_of(found) or 'nobody'} now: nothing was moved; decide again",
            moved=False,
        )
    echo(f"{model}: champion {name_of(expected) or 'nobody'} -> {name_of(target) or 'nobody'}")
    if target:
        client.set_registered_model_alias(model, CHAMPION, target.version)
    elif found:
        client.delete_registered_model_alias(model, CHAMPION)
    echo(f"{model}: reading the alias again")
    found = current(store, prefix)
    if name_of(found) != name_of(target):
        raise LostRace(
            f"the champion of {model} was to be {name_of(target) or 'nobody'}, and somebody else has made it "
            f"{name_of(found) or 'nobody'} meanwhile: that stands",
            moved=True,
        )
    return align_merged(store, prefix, target)


def align_merged(store: Store, prefix: str, champion: ModelVersion | None) -> tuple[str, ...]:
    """Put the alias on the merged models of the champion's run, and take it from those of any other; a line each."""
    client, done = store.client, []
    pipeline = champion.tags.get("pipeline") if champion else None
    if champion and pipeline is None:
        return (
            f"merged models are left as they are: {reference(champion)} has no tag `pipeline`, so nothing tells which "
            "are of its run",
        )
    gone = f"it is of another run than {reference(champion)}" if champion else "no soup is"
    for model in members.merged(store, prefix):
        have = versions(client, model)
        mine = [version for version in have if pipeline and version.tags.get("pipeline") == pipeline]
        holder = next((version for version in have if CHAMPION in version.aliases), None)
        if mine and name_of(holder) != name_of(mine[-1]):
            client.set_registered_model_alias(model, CHAMPION, mine[-1].version)
            done.append(f"{reference(mine[-1])} is champion with it")
        elif holder and not mine:
            client.delete_registered_model_alias(model, CHAMPION)
            done.append(f"{reference(holder)} is no longer champion: {gone}")
    return tuple(done)


def remember(store: Store, version: ModelVersion, previous: ModelVersion | None) -> None:
    """Note on a version who was champion before it, for `rollback`."""
    if previous:
        store.client.set_model_version_tag(version.name, version.version, PREVIOUS, str(previous.version))
    else:
        forget(store, version)


def forget(store: Store, version: ModelVersion) -> None:
    if PREVIOUS in store.client.get_model_version(version.name, str(version.version)).tags:
        store.client.delete_model_version_tag(version.name, str(version.version), PREVIOUS)


def demote(store: Store, uri: str, prefix: str, reason: str | None, echo: Callable[[str], None]) -> Decision:
    """Take the alias away; nothing is champion then, until a promotion or a rollback.

    Raises:
        ValueError: there is no champion.
    """
    with turn(uri):
        champion = current(store, prefix)
        if champion is None:
            raise ValueError(f"{soup_name(prefix)} has no champion; `bonesoup promote` makes one")
        name = reference(champion)
        # Before the alias goes: a demotion that is cut short must leave something to go back to.
        store.client.set_registered_model_alias(champion.name, DEMOTED, champion.version)
        decision = Decision("demote", name, DEMOTED, now(), before=name, after=None, reason=reason)
        decision = carry_out(store, prefix, decision, None, champion, echo)
        if decision.verdict != DEMOTED:
            settle(store, prefix)
        return decision


def settle(store: Store, prefix: str) -> None:
    """There is a champion: who was demoted before it is nobody's way back any more."""
    if aliased(store.client, soup_name(prefix), DEMOTED):
        store.client.delete_registered_model_alias(soup_name(prefix), DEMOTED)


def rollback(
    store: Store, uri: str, prefix: str, reason: str | None, work: Path, echo: Callable[[str], None]
) -> Decision:
    """Give the alias back to the version that had it before the present champion, or that was demoted.

    Args:
        work: a folder for that version's files, which are looked at first.

    Raises:
        ValueError: there was no champion before, or that version is gone or damaged.
    """
    with turn(uri):
        champion = current(store, prefix)
        heir = _previous(store, champion) if champion else aliased(store.client, soup_name(prefix), DEMOTED)
        if heir is None:
            raise ValueError(f"{soup_name(prefix)} has no champion; `bonesoup promote` makes one")
        name = reference(champion or heir)
        echo(f"{reference(heir)}: looking at its files")
        files = intact.look(store, heir, work)
        if files.faults:
            raise ValueError(
                f"{reference(heir)} is damaged in the store, so the champion stays {name_of(champion) or 'nobody'}: "
                f"{files.text}; `bonesoup promote NUMBER` makes another version champion"
            )
        note = None if files.listed else "Its files were registered without a list, so damage to them would not show"
        decision = Decision(
            "rollback", name, ROLLED_BACK, now(), name_of(champion), reference(heir), reason=reason, note=note
        )
        decision = carry_out(store, prefix, decision, heir, champion, echo)
        if decision.verdict == ROLLED_BACK:
            settle(store, prefix)
            if champion:
                forget(store, champion)
        return decision


def _previous(store: Store, champion: ModelVersion) -> ModelVersion:
    """Who was champion before this one."""
    number = champion.tags.get(PREVIOUS)
    if number is None:
        raise ValueError(
            f"{reference(champion)} followed no other champion, so there is nothing to go back to; "
            "`bonesoup demote` takes the alias away"
        )
    previous = next((v for v in versions(store.client, champion.name) if str(v.version) == number), None)
    if previous is None:
        raise ValueError(f"the previous champion {champion.name}/{number} is no longer in the registry")
    return previous
