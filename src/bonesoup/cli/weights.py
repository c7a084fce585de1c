"""`bonesoup merge, soup`: weights on disk into weights on disk. cli.py adds them to `bonesoup`."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from bonesoup.settings import params

commands = typer.Typer()
console = Console(highlight=False, soft_wrap=True)
Preference = Annotated[
    str,
    typer.Option(help="a named preference of params.yaml, or helpful=0.7,harmless=0.3", show_default=False),
]
# Modules whose error is printed, the worst first.
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
        bool, typer.Option("--allow-sum", help="without a base: take coefficients that do not sum to 1")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="continue where the same merge was interrupted")] = False,
) -> None:
    """Merge whole checkpoints: any number, any real coefficients, summed in float32, streamed from disk to disk.

    Example: bonesoup merge --model policies/a=1.75 --model policies/b=-0.75 --out merged
    """
    models = [_weighted(text) for text in model]
    size = _size(shard_size)
    from bonesoup.weights import merge

    try:
        with _progress("merging") as progress:
            merge(models, out, base, dtype and dtype.value, allow_sum, size, resume, progress)
    except KeyboardInterrupt:
        typer.echo("--resume continues from what is written", err=True)
        raise
    console.print(escape(f"{out}: {' '.join(f'{coefficient:+g} * {path}' for path, coefficient in models)}"))


@commands.command()
def soup(
    preference: Preference,
    out: Annotated[Path, typer.Option(help="folder to write; must not exist")],
    full: Annotated[
        bool, typer.Option("--full/--adapter", help="plain Transformers folder, or a PEFT adapter")
    ] = False,
    method: Annotated[str, typer.Option(help="which soup")] = "bone",
    rank: Annotated[
        int | None, typer.Option(help="compress the adapter to this rank", min=1, show_default=False)
    ] = None,
    max_error: Annotated[
        float | None,
        typer.Option(
            help="compress each module as far as this relative error allows, such as 0.01", show_default=False
        ),
    ] = None,
) -> None:
    """Merge the policies for one preference into a PEFT adapter or a full checkpoint: exactly, unless compressed.

    Example: bonesoup soup --preference helpful=0.7,harmless=0.3 --full --out soups/mine
    """
    weights = params.load().preference(preference)
    if full and not (rank is None and max_error is None):
        raise ValueError("--rank and --max-error are of an adapter; full weights have no rank to save")
    if out.exists():
        raise ValueError(f"{out} exists already: choose another folder, or remove it")
    chosen = recipe(method)
    from bonesoup.generation.soup import merge_adapters
    from bonesoup.weights.adapters import save
    from bonesoup.weights.card import adapter_card
    from bonesoup.weights.compress import compress
    from bonesoup.weights.fold import fold

    adapter, values = merge_adapters(chosen, weights)
    coefficients = {policy.slot: float(value) for policy, value in zip(chosen.policies, values, strict=True)}
    console.print(f"{out}: {', '.join(f'{slot} {value:+.4f}' for slot, value in coefficients.items())}")
    if full:
        fold(chosen.base, adapter, out)
        return
    errors = None
    if not (rank is None and max_error is None):
        adapter, errors = compress(adapter, rank, max_error)
    save(adapter, out, str(chosen.base), adapter_card(preference, str(chosen.base), coefficients, errors))
    ranks = sorted({len(a) for a, _ in adapter.tensors.values()})
    console.print(f"rank {ranks[0]} to {ranks[-1]}" if len(ranks) > 1 else f"rank {ranks[0]}")
    if errors:
        worst = sorted(errors.items(), key=lambda item: -item[1])[:SHOWN]
        console.print("relative error: " + ", ".join(f"{module} {error:.2%}" for module, error in worst))


def recipe(method: str):
    """The soup of a method of this project's run.

    Raises:
        ValueError: there is none.
    """
    from bonesoup.paths import SOUPS

    path = SOUPS / f"{method}.json"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in SOUPS.glob("*.json"))) or "none yet: `bonesoup run` makes them"
        raise ValueError(f"no soup {method!r} in {SOUPS}; there are: {known}")
    # After the cheap checks: it imports torch.
    from bonesoup.generation.soup import Soup

    return Soup.read(path)


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
    if not match or not float(match[1]):
        raise typer.BadParameter(f"--shard-size is {text!r}, expected a number with KB, MB or GB such as 5GB")
    return int(float(match[1]) * UNITS[match[2].upper()])


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None] | None]:
    """A bar with bytes and time left, on standard error; nothing where that is no terminal."""
    errors = Console(stderr=True)
    if not errors.is_terminal:
        yield None
        return
    columns = (TextColumn(what), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
