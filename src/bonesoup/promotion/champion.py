"""The alias `champion`: decide, record, move, record, settle.

The alias is on a version of `<name>-soup` and, with it, on the merged models of the same run. A demoted champion keeps
the alias `demoted` until there is another: `rollback` returns to it. Every decision is stored with its version:
decisions/<time>.json in its run, and a summary of the last in its tag `decision`.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from mlflow.entities.model_registry import ModelVersion

from bonesoup.files import digest
from bonesoup.locks import exclusive
from bonesoup.promotion.rule import Check
from bonesoup.registry.manifest import inspect
from bonesoup.registry.store import Store, database_file, shown
from bonesoup.registry.versions import (
    CHAMPION,
    DECISION,
    DEMOTED,
    PREVIOUS,
    aliased,
    models,
    reference,
    soup_name,
    versions,
)
from bonesoup.registry.yardstick import now

PROMOTE, DEMOTE, ROLLBACK = "promote", "demote", "rollback"
PROMOTED, REFUSED, LOST, KEPT, ROLLED_BACK = "promoted", "refused", "lost the race", "already champion", "rolled back"
# The verdict while the alias is being moved; it stays if the move is interrupted.
UNFINISHED = "unfinished"
MOVED = (PROMOTED, DEMOTED, ROLLED_BACK)
# Length of a tag that every database of MLflow accepts.
TAG_CHARACTERS = 4900


@dataclass(frozen=True)
class Decision:
    """A decision about a version, and its reasons.

    Attributes:
        action: promote, demote or rollback.
        verdict: the outcome.
        before: the champion when it was decided; None if there was none.
        after: the champion when it was done.
        incumbent: what the version was judged against.
        forced: failed checks were overruled.
        note: anything else worth saying.
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

    @property
    def granted(self) -> bool:
        """Return True if the request was granted, or with `dry_run` would be."""
        return self.verdict in (*MOVED, KEPT)

    @property
    def short(self) -> str:
        """Return a line for a tag."""
        failed = [check.name for check in self.checks if not check.passed]
        parts = [
            f"{self.verdict} {self.time[:10]} {self.time[11:16].replace('-', ':')} UTC",
            "by force" if self.forced else None,
            self.incumbent and f"against {self.incumbent}",
            f"failed: {', '.join(failed)}" if failed else None,
            self.reason and f"reason: {self.reason}",
            self.note,
        ]
        return "; ".join(part for part in parts if part)

    @property
    def sentence(self) -> str:
        """Return the decision as a sentence for people."""
        would = "would be " if self.dry_run else ""
        if self.verdict == KEPT:
            text = f"{self.version} is the champion already"
        elif self.action == PROMOTE:
            text = f"{self.version} {would}{self.verdict}"
            text += f", judged against {self.incumbent}" if self.incumbent else ""
            text += ", by force" if self.forced else ""
        elif self.verdict == ROLLED_BACK and self.before is None:
            text = f"{self.version} is champion again: its demotion is taken back"
        else:
            text = f"{self.version} {self.verdict}; champion: {self.after or 'nobody'}"
        return f"{text}. {self.note}" if self.note else f"{text}."


def current(store: Store, prefix: str) -> ModelVersion | None:
    return aliased(store.client, soup_name(prefix), CHAMPION)


def name_of(version: ModelVersion | None) -> str | None:
    return reference(version) if version else None


def _shown(version: ModelVersion | None) -> str:
    return name_of(version) or "nobody"


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
        decision = Decision(DEMOTE, name, DEMOTED, now(), before=name, after=None, reason=reason)
        return carry_out(store, prefix, decision, None, champion, echo)


def rollback(
    store: Store, uri: str, prefix: str, reason: str | None, work: Path, echo: Callable[[str], None]
) -> Decision:
    """Give the alias back to the version that had it before the present champion, or that was demoted.

    Args:
        work: folder for that version's files, which are checked first.

    Raises:
        ValueError: there was no champion before, or that version is gone or damaged.
    """
    with turn(uri):
        champion = current(store, prefix)
        heir = _previous(store, champion) if champion else aliased(store.client, soup_name(prefix), DEMOTED)
        if heir is None:
            raise ValueError(f"{soup_name(prefix)} has no champion; `bonesoup promote` makes one")
        echo(f"{reference(heir)}: checking its files")
        files = inspect(store, heir, work)
        if files.faults:
            raise ValueError(
                f"{reference(heir)} is damaged in the store, so the champion stays {_shown(champion)}: "
                f"{files.text}; `bonesoup promote NUMBER` makes another version champion"
            )
        note = None if files.listed else "Its files were registered without a list, so damage to them would not show"
        name, before = reference(champion or heir), name_of(champion)
        decision = Decision(ROLLBACK, name, ROLLED_BACK, now(), before, reference(heir), reason=reason, note=note)
        return carry_out(store, prefix, decision, heir, champion, echo)


def _previous(store: Store, champion: ModelVersion) -> ModelVersion:
    """Look up the champion before this one."""
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


def carry_out(
    store: Store,
    prefix: str,
    decision: Decision,
    target: ModelVersion | None,
    champion: ModelVersion | None,
    echo: Callable[[str], None],
) -> Decision:
    """Record the decision, move the alias, record the outcome, settle; returns the decision with its outcome.

    A move without a record cannot happen: the record is written first.

    Args:
        target: the next champion; None takes the alias away.
        champion: the champion that the decision was made about.
    """
    concerned = [target] if decision.action == PROMOTE else [version for version in (target, champion) if version]
    for version in concerned:
        record(store, version, replace(decision, verdict=UNFINISHED))
    _keep_way_back(store, decision, target, champion)
    if lost := _move(store, prefix, target, champion, echo):
        verdict, note = lost
        decision = replace(decision, verdict=verdict, note=note, after=name_of(current(store, prefix)))
    else:
        decision = replace(decision, after=name_of(target), merged=align_merged(store, prefix, target))
    for version in concerned:
        record(store, version, decision)
    _settle(store, decision, target, champion)
    return decision


def record(store: Store, version: ModelVersion, decision: Decision) -> None:
    """Keep a decision with a version."""
    store.client.log_dict(version.run_id, asdict(decision), f"decisions/{decision.time}.json")
    store.client.set_model_version_tag(version.name, version.version, DECISION, decision.short[:TAG_CHARACTERS])


def _keep_way_back(
    store: Store, decision: Decision, target: ModelVersion | None, champion: ModelVersion | None
) -> None:
    """Note the version to roll back to before the alias moves: a move that is cut short must leave a way back."""
    if decision.action == PROMOTE and champion:
        store.client.set_model_version_tag(target.name, target.version, PREVIOUS, str(champion.version))
    elif decision.action == PROMOTE:
        _forget_previous(store, target)
    elif decision.action == DEMOTE:
        store.client.set_registered_model_alias(champion.name, DEMOTED, champion.version)


def _move(
    store: Store,
    prefix: str,
    target: ModelVersion | None,
    champion: ModelVersion | None,
    echo: Callable[[str], None],
) -> tuple[str, str] | None:
    """Give the alias to `target`, or to nobody; return verdict and reason if somebody else has moved it meanwhile."""
    model, client = soup_name(prefix), store.client
    before, after = _shown(champion), _shown(target)
    if (holder := _shown(current(store, prefix))) != before:
        return REFUSED, (
            f"the champion of {model} was {before} when this was decided and is {holder} now: nothing was moved; "
            "decide again"
        )
    echo(f"{model}: champion {before} -> {after}")
    if target:
        client.set_registered_model_alias(model, CHAMPION, target.version)
    else:
        client.delete_registered_model_alias(model, CHAMPION)
    echo(f"{model}: reading the alias again")
    if (holder := _shown(current(store, prefix))) != after:
        return LOST, (
            f"the champion of {model} was to be {after}, and somebody else has made it {holder} meanwhile: that stands"
        )
    return None


def align_merged(store: Store, prefix: str, champion: ModelVersion | None) -> tuple[str, ...]:
    """Put the alias on the merged models of the champion's run, and take it from all others; a line for each change."""
    client, changes = store.client, []
    pipeline = champion.tags.get("pipeline") if champion else None
    if champion and pipeline is None:
        return (
            f"merged models are left as they are: {reference(champion)} has no tag `pipeline`, so nothing tells which "
            "come from its run",
        )
    why = f"it comes from another run than {reference(champion)}" if champion else "no soup is"
    for model in (each.name for each in models(store, prefix) if each.tags["kind"] == "merged"):
        have = versions(client, model)
        same_run = [version for version in have if pipeline and version.tags.get("pipeline") == pipeline]
        holder = next((version for version in have if CHAMPION in version.aliases), None)
        if same_run and name_of(holder) != name_of(same_run[-1]):
            client.set_registered_model_alias(model, CHAMPION, same_run[-1].version)
            changes.append(f"{reference(same_run[-1])} is champion with it")
        elif holder and not same_run:
            client.delete_registered_model_alias(model, CHAMPION)
            changes.append(f"{reference(holder)} is no longer champion: {why}")
    return tuple(changes)


def _settle(store: Store, decision: Decision, target: ModelVersion | None, champion: ModelVersion | None) -> None:
    """Remove the ways back that a rollback can no longer take."""
    moved = decision.verdict in MOVED
    if decision.action == PROMOTE and not moved:
        _forget_previous(store, target)
    if decision.action == ROLLBACK and moved and champion:
        _forget_previous(store, champion)
    # There is a champion, so nobody goes back to the version that was demoted before it.
    if moved == (decision.action != DEMOTE):
        model = (target or champion).name
        if aliased(store.client, model, DEMOTED):
            store.client.delete_registered_model_alias(model, DEMOTED)


def _forget_previous(store: Store, version: ModelVersion) -> None:
    if PREVIOUS in store.client.get_model_version(version.name, str(version.version)).tags:
        store.client.delete_model_version_tag(version.name, str(version.version), PREVIOUS)


@contextmanager
def turn(uri: str) -> Iterator[None]:
    """Lock decisions, so that all checkouts on this machine that use the store make one at a time.

    Raises:
        RuntimeError: another decision did not end within an hour.
    """
    with ExitStack() as held:
        try:
            held.enter_context(exclusive(lock_file(uri)))
        except TimeoutError as error:
            # A TimeoutError would look like a failure of the store.
            raise RuntimeError(str(error)) from None
        yield


def lock_file(uri: str) -> Path:
    """Return the lock of a store: next to a sqlite file; for any other store in the user's cache."""
    if file := database_file(uri):
        return file.with_name(f"{file.name}.champion.lock")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "bonesoup" / f"champion-{digest(shown(uri))}.lock"
