"""`bonesoup verify, rebuild, clean`: commands that keep stored results in order."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from bonesoup.cli.terminal import console
from bonesoup.settings import params

commands = typer.Typer()
# Number of lines shown of a list.
SHOWN = 20


@commands.command()
def verify(
    versions: Annotated[
        list[str] | None,
        typer.Argument(help="3, @champion, bonesoup-soup/3; by default the DVC cache of this folder"),
    ] = None,
    restore: Annotated[
        bool, typer.Option("--restore", help="fetch damaged and missing objects of the DVC cache from the remote")
    ] = False,
) -> None:
    """Check every file of registered versions and of the DVC cache against its digest; exit with 1 if one is damaged.

    Example: bonesoup verify @champion --restore
    """
    settings = params.load()
    from bonesoup.upkeep import verify as checks
    from bonesoup.workspace import objects

    root = Path.cwd()
    cache = objects.cache(root)
    with console.status("reading"):
        if versions:
            checked = checks.versions(root, settings.register_.name, versions, cache)
        else:
            checked = [checks.workspace(root, cache)]
    console.print(_checked_table(checked))
    faults = [f"{item.name}: {fault}" for item in checked for fault in item.faults]
    corrupted = sorted({name for item in checked for name in item.objects.corrupted})
    missing = sorted({name for item in checked for name in item.objects.missing})
    _listing("damaged files of versions, which only registering them again brings back", faults)
    _listing("corrupted objects of the DVC cache", corrupted)
    unlisted = [f"{item.name}: has no manifest, so it cannot be checked" for item in checked if not item.listed]
    _listing("registered before versions had a list of their files", unlisted)
    if restore and (corrupted or missing):
        with console.status("fetching from the DVC remote"):
            done = checks.restore(root, cache, checked)
        console.print(f"restored from the remote: {len(done.back)} objects")
        if done.outs:
            console.print(f"checked out again in the workspace: {', '.join(done.outs)}")
        if done.reason:
            console.print(f"the remote gave nothing: {done.reason}")
        corrupted, missing = sorted(done.lost), sorted(set(missing) - done.back)
        _listing("removed as corrupted, and not brought back", corrupted)
    if missing:
        console.print(
            f"{len(missing)} objects are not in the local cache. `bonesoup verify --restore` fetches what the DVC "
            "remote has; `bonesoup rebuild` makes the rest of a version again."
        )
    if faults or corrupted:
        raise RuntimeError(_verdict(len(faults), len(corrupted), restore))


def _checked_table(checked: list) -> Table:
    table = Table("", "files", "damaged", "objects", "corrupted", "missing")
    for item in checked:
        status = item.objects
        damaged = len(item.faults) if item.listed or item.faults else "?"
        counts = [item.files, damaged, len(status.sound), len(status.corrupted), len(status.missing)]
        table.add_row(item.name, *(str(count) for count in counts), style="red" if item.damaged else None)
    return table


def _verdict(files: int, objects: int, restored: bool) -> str:
    what = [f"{files} files of versions"] * bool(files) + [f"{objects} objects of the DVC cache"] * bool(objects)
    hint = "" if restored or not objects else "; `bonesoup verify --restore` fetches objects from the DVC remote"
    return f"damaged: {' and '.join(what)}{hint}"


def _listing(title: str, lines: list[str]) -> None:
    if not lines:
        return
    console.print(f"{title}:")
    for line in lines[:SHOWN]:
        console.print(f"  {line}")
    if len(lines) > SHOWN:
        console.print(f"  ... and {len(lines) - SHOWN} more")


@commands.command()
def rebuild(
    version: Annotated[str, typer.Argument(help="3, @champion, bonesoup-soup/3")],
    into: Annotated[Path, typer.Option(help="folder to make; must not exist")],
) -> None:
    """Rebuild a registered version from its commit, settings and data, and compare; exit with 1 if adapters differ.

    Example: bonesoup rebuild @champion --into ../rebuilt
    """
    settings = params.load()
    from bonesoup.upkeep import rebuild as again

    root = Path.cwd()
    origin = again.read(root, settings.register_.name, version)

    again.prepare(root, origin, into, console.print)
    console.print(f"{into} holds commit, settings and data of {origin.name}; now every stage runs")
    _listing("the environment has changed since it was made", again.environment_differences(origin))
    again.run(into.absolute(), console.print)
    compared = again.compare(origin, into.absolute())
    console.print(_compared_table(compared))
    different = [result.path for result in compared if result.stage == "adapter" and not result.same]
    if different:
        raise RuntimeError(f"adapters differ from those of {origin.name}: {', '.join(different)}")
    console.print(f"the adapters equal those of {origin.name}, bit for bit")


def _compared_table(compared: list) -> Table:
    table = Table("stage", "result", "recorded", "now", "")
    for result in compared:
        verdict = "same" if result.same else "differs" if result.now else "not made"
        now, style = result.now[:12] if result.now else "", None if result.same else "red"
        table.add_row(result.stage, result.path, result.recorded[:12], now, verdict, style=style)
    return table


@commands.command()
def clean(
    keep: Annotated[
        int, typer.Option(min=1, help="how many newest versions of each model, and newest pipelines, to keep")
    ] = 5,
    yes: Annotated[bool, typer.Option("--yes", help="delete; without it, only list")] = False,
    shared: Annotated[
        bool, typer.Option("--shared", help="leave out/, scratch/ and work folders in var/ of this folder alone")
    ] = False,
) -> None:
    """List what nothing needs any more: old versions and runs, DVC objects, scratch folders. With --yes, delete it.

    It never deletes what an alias, a rollback, a copy or their lineage needs, data that a commit tracks, or anything on
    a DVC remote.

    Example: bonesoup clean --keep 10 --yes
    """
    settings = params.load()
    from bonesoup.registry.versions import reference
    from bonesoup.upkeep import clean as cleaning

    root = Path.cwd()
    with console.status("looking"):
        plan = cleaning.plan(root, settings, keep, shared)
        sizes = plan.sizes()
    if plan.retention:
        _listing("versions that go", [reference(version) for version in plan.retention.versions])
    paths = [path.relative_to(root) for path in plan.training + plan.leftovers]
    _listing("folders and files that go", [str(path) for path in paths])
    table = Table("what goes", "how many", "bytes")
    for part, (count, size) in sizes.items():
        table.add_row(part, str(count), f"{size:,}")
    console.print(table)
    for note in plan.notes:
        console.print(f"left alone: {note}")
    if not yes:
        again = f"bonesoup clean --keep {keep}{' --shared' if shared else ''} --yes"
        console.print(f"Nothing was deleted. `{again}` deletes this.")
        return
    with console.status("deleting"):
        cleaning.carry_out(root, plan, console.print)
    console.print(f"Freed {sum(size for _, size in sizes.values()):,} bytes.")
    if plan.failed:
        raise ConnectionError(f"{plan.failed}; all else is done")
