"""`bonesoup models, evaluate, compare, yardstick, promote, demote, rollback`: commands on registered versions."""

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from bonesoup.cli.terminal import console, print_tables
from bonesoup.files import work_folder
from bonesoup.registry import events
from bonesoup.settings import params, schema

commands = typer.Typer()
ROOT = Path(".")
Json = Annotated[bool, typer.Option("--json", help="print one JSON object on standard output and nothing else")]
Reason = Annotated[str | None, typer.Option(help="why; this is recorded", show_default=False)]
VERSION = "3, NAME/3, @champion, NAME@ALIAS or models:/NAME/3; a bare number is a version of the soup"


@commands.command()
def models(as_json: Json = False) -> None:
    """List registered versions: aliases, metrics with intervals, the last decision, what each was made from.

    Example: bonesoup models
    """
    with _store(as_json) as (store, _, settings):
        from bonesoup.cli import show_registry
        from bonesoup.registry.listing import listing

        listed = listing(store, settings.register_.name)
    _show(listed, as_json, show_registry.models)


@commands.command()
def evaluate(
    version: Annotated[
        list[str] | None, typer.Argument(help=f"{VERSION}; champion and newest by default", show_default=False)
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(help="new prompts instead of the yardstick's: JSON lines with `prompt`, or one prompt a line"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Score versions on the current yardstick or on new prompts. Nothing is scored twice.

    Example: bonesoup evaluate @champion 3 --prompts new-prompts.txt
    """
    if prompts:
        from bonesoup.data.new_prompts import read_prompts

        # Read before asking the store: a fault in the file is likelier.
        read_prompts(prompts)
    with _store(as_json) as (store, _, settings), _machine(settings) as machine:
        from bonesoup.cli import show_registry
        from bonesoup.promotion.scoring import evaluate

        result = evaluate(store, settings.register_.name, version or [], prompts, machine, _say)
    _show(result, as_json, show_registry.evaluation)


@commands.command()
def compare(
    a: Annotated[str, typer.Argument(help=VERSION)],
    b: Annotated[str, typer.Argument(help="the same; differences are B minus A")],
    as_json: Json = False,
) -> None:
    """Compare two versions on the current yardstick, with intervals of their differences, paired by prompt.

    Example: bonesoup compare @champion 3
    """
    with _store(as_json) as (store, _, settings), _machine(settings) as machine:
        from bonesoup.cli import show_registry
        from bonesoup.promotion.compare import compare

        result = compare(store, settings.register_.name, a, b, machine, _say)
    _show(result, as_json, show_registry.comparison)


@commands.command()
def yardstick(
    adopt: Annotated[
        bool, typer.Option("--adopt", help="make the yardstick of this folder's pipeline (out/) the current one")
    ] = False,
    reason: Reason = None,
    as_json: Json = False,
) -> None:
    """Show the yardstick (prompts, judges, scale, grid, statistics), or adopt that of this folder's pipeline.

    Example: bonesoup yardstick --adopt --reason 'the test prompts were replaced'
    """
    if adopt and not (reason or "").strip():
        raise typer.BadParameter("--adopt needs a --reason: versions scored before must be scored again")
    if reason and not adopt:
        raise typer.BadParameter("--reason is what --adopt records; without it nothing is recorded")
    with _store(as_json) as (store, _, settings):
        from bonesoup.cli import show_registry
        from bonesoup.registry.yardstick import adopt_pipeline, describe

        name = settings.register_.name
        if adopt:
            _say(adopt_pipeline(store, name, ROOT, params.PARAMS.read_text(), reason))
        with work_folder(ROOT) as work:
            facts = describe(store, name, work)
    _show(facts, as_json, show_registry.yardstick)


@commands.command()
def promote(
    version: Annotated[
        str | None, typer.Argument(help=f"{VERSION}; the newest soup by default", show_default=False)
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="promote although checks fail; needs --reason")] = False,
    reason: Reason = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="decide, but move and record nothing")] = False,
    as_json: Json = False,
) -> None:
    """Make a soup version the champion if mlflow/promotion.yaml allows it. Exits with status 1 if it is refused.

    Example: bonesoup promote 3
    """
    if force and not (reason or "").strip():
        raise typer.BadParameter("--force needs a --reason: it is recorded next to the checks that failed")
    from bonesoup.promotion import rule

    receivers = events.receivers()
    applied = rule.load(ROOT / rule.RULE)
    with _store(as_json) as (store, uri, settings), _machine(settings) as machine:
        from bonesoup.promotion.promote import promote

        name = settings.register_.name
        decision = promote(store, uri, name, applied, version, machine, _say, force, reason, dry_run)
    _decided(decision, as_json, receivers)


@commands.command()
def demote(reason: Reason = None, as_json: Json = False) -> None:
    """Take the alias `champion` away from soup and merged models; recorded like a promotion.

    Example: bonesoup demote --reason 'harmful answers reported'
    """
    receivers = events.receivers()
    with _store(as_json) as (store, uri, settings):
        from bonesoup.promotion.champion import demote

        decision = demote(store, uri, settings.register_.name, reason, _say)
    _decided(decision, as_json, receivers)


@commands.command()
def rollback(reason: Reason = None, as_json: Json = False) -> None:
    """Return the alias `champion` to the version that had it before, if its files are intact; undo a demotion.

    Example: bonesoup rollback --reason 'slower than expected'
    """
    receivers = events.receivers()
    with _store(as_json) as (store, uri, settings):
        from bonesoup.promotion.champion import rollback

        with work_folder(ROOT) as work:
            decision = rollback(store, uri, settings.register_.name, reason, work, _say)
    _decided(decision, as_json, receivers)


@contextlib.contextmanager
def _store(as_json: bool) -> Iterator[tuple[Any, str, schema.Settings]]:
    """Yield (store, its URI, settings); with `as_json` everything printed meanwhile goes to standard error."""
    settings = params.load()
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        from bonesoup.registry.store import CUT_SHORT, UNCHANGED, connect, nothing_lost, tracking_uri

        store, uri = connect(ROOT, settings.register_.name, consequence=UNCHANGED), tracking_uri(ROOT)
        with nothing_lost(uri, CUT_SHORT):
            yield store, uri, settings


@contextlib.contextmanager
def _machine(settings: schema.Settings) -> Iterator[Any]:
    from bonesoup.promotion.scoring import Machine
    from bonesoup.workspace.repro import computing

    # Before torch is imported.
    os.environ.update(computing(settings))
    with work_folder(ROOT) as work:
        yield Machine(settings.device, settings.evaluation.batch, work)


def _say(line: str) -> None:
    console.print(line, style="dim")


def _show(facts: dict, as_json: bool, table: Callable[[dict], Any]) -> None:
    if as_json:
        print(json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False))
    else:
        print_tables(table(facts))


def _decided(decision: Any, as_json: bool, receivers: list[str]) -> None:
    from bonesoup.cli import show_registry
    from bonesoup.promotion.announce import announce

    facts = asdict(decision) | {"granted": decision.granted, "summary": decision.sentence}
    _show(facts, as_json, show_registry.decision)
    for line in announce(decision, receivers):
        print(line, file=sys.stderr)
    if not decision.granted:
        sys.exit(1)
