"""`bonesoup merge`: combine whole checkpoints."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from bonesoup.cli.terminal import console

commands = typer.Typer()
# Number of tensors that are listed.
SHOWN = 5
UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9}


class DType(StrEnum):
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


@commands.command()
def merge(
    model: Annotated[
        list[str],
        typer.Option(metavar="DIR=COEFFICIENT", help="a Transformers folder and its coefficient; may be repeated"),
    ],
    out: Annotated[Path, typer.Option(help="folder to write; must not exist")],
    base: Annotated[
        Path | None,
        typer.Option(help="merge differences from this model: base + sum of coefficient * (model - base)"),
    ] = None,
    dtype: Annotated[
        DType | None,
        typer.Option(metavar="DTYPE", help="float32, bfloat16 or float16; the inputs' common one by default"),
    ] = None,
    shard_size: Annotated[str, typer.Option(help="largest file of weights, such as 500MB")] = "5GB",
    allow_sum: Annotated[
        bool, typer.Option("--allow-sum", help="without a base: accept coefficients that do not sum to 1")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="continue the same merge where it was interrupted")] = False,
) -> None:
    """Merge whole checkpoints: any number of them, any real coefficients, summed in float32, streamed disk to disk.

    Example: bonesoup merge --model policies/a=1.75 --model policies/b=-0.75 --out merged
    """
    models = [_weighted(text) for text in model]
    size = _size(shard_size)
    from bonesoup.weights import merge

    try:
        with _progress("merging") as progress:
            left_out = merge(models, out, base, dtype and dtype.value, allow_sum, size, resume, progress)
    except KeyboardInterrupt:
        typer.echo("--resume continues from here", err=True)
        raise
    console.print(f"{out}: {' '.join(f'{coefficient:+g} * {path}' for path, coefficient in models)}")
    if left_out:
        console.print(f"left out, since loading computes them: {', '.join(left_out[:SHOWN])}")
        if len(left_out) > SHOWN:
            console.print(f"and {len(left_out) - SHOWN} more, which README.md lists")


def _weighted(text: str) -> tuple[Path, float]:
    path, _, coefficient = text.rpartition("=")
    try:
        value = float(coefficient)
    except ValueError:
        value = None
    if value is None or not path:
        raise typer.BadParameter(f"--model is {text!r}, expected DIR=COEFFICIENT such as policies/a=0.5")
    return Path(path), value


def _size(text: str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(KB|MB|GB)", text.strip(), re.IGNORECASE)
    size = int(float(match[1]) * UNITS[match[2].upper()]) if match else 0
    if not size:
        raise typer.BadParameter(f"--shard-size is {text!r}, expected a number with KB, MB or GB such as 5GB")
    return size


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None] | None]:
    """Show bytes and time left in a bar on standard error, if that is a terminal."""
    errors = Console(stderr=True)
    if not errors.is_terminal:
        yield None
        return
    columns = (TextColumn(what), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
