"""`bonesoup study`: run many settings times many seeds, and print their table."""

from pathlib import Path
from typing import Annotated

import typer

from bonesoup.cli.terminal import console

commands = typer.Typer()


@commands.command()
def study(
    name: Annotated[str, typer.Argument(help="name of a file in studies/")] = "embedded",
    seeds: Annotated[str | None, typer.Option(metavar="N,N", help="seeds to run or show; by default all")] = None,
    settings: Annotated[
        str | None, typer.Option(metavar="NAME,NAME", help="settings to run or show; by default all")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="cells to run at once; each stage uses `threads` threads")] = 1,
    time_limit: Annotated[
        float | None,
        typer.Option(min=0, metavar="MINUTES", help="stop after this time; run the same command again to continue"),
    ] = None,
    data: Annotated[str | None, typer.Option(help="data file to read instead of the profile's")] = None,
    show: Annotated[bool, typer.Option("--show", help="print the table of what is finished, in Markdown")] = False,
    figure: Annotated[
        Path | None, typer.Option(help="PNG to draw attainment bands over seeds to, of the first of the settings")
    ] = None,
) -> None:
    """Run a study, many settings times many seeds. Finished cells are not run again.

    Each cell is the pipeline of the last commit up to `report`, with a setting's changes and a seed, in a clone under
    var/study/; its result goes to studies/results/NAME. A failed cell does not stop the others; the command then exits
    with status 1.

    Example: bonesoup study embedded --seeds 0,1 --jobs 2 --time-limit 60
    """
    from bonesoup.study import cells as plans
    from bonesoup.study import run

    plan, names = plans.read(name), [] if settings is None else settings.split(",")
    if show:
        from bonesoup.study import table

        print(table.of_study(name, _seeds(seeds), names))
    if figure:
        from bonesoup.study import attainment

        attainment.write(name, plans.cells(plan, [], names)[0].setting, figure)
        console.print(f"wrote {figure}")
    if show or figure:
        return
    chosen = plans.cells(plan, _seeds(seeds), names, data)
    with console.status("preparing") as status:
        limit = time_limit * 60 if time_limit is not None else None
        outcome = run.run(
            Path.cwd(), name, chosen, jobs, limit, console.print, lambda text: status.update(text or "waiting")
        )
    console.print(f"{len(chosen) - len(outcome.failed) - len(outcome.left)} of {len(chosen)} cells are done.")
    if outcome.left:
        console.print(f"The time is up. Left: {', '.join(outcome.left)}. Run the same command again to continue.")
    if outcome.failed:
        names = ", ".join(outcome.failed)
        raise RuntimeError(f"{len(outcome.failed)} of {len(chosen)} cells failed, for the reasons above: {names}")
    console.print(f"`bonesoup study {name} --show` prints the table.")


def _seeds(text: str | None) -> list[int]:
    try:
        return [int(seed) for seed in text.split(",")] if text else []
    except ValueError:
        raise typer.BadParameter(f"--seeds {text!r}: expected numbers, such as 0,1,2") from None
