"""`bonesoup merge` and `bonesoup soup`: combine weights on disk."""

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
from bonesoup.settings.schema import Settings

commands = typer.Typer()
console = Console(highlight=False, soft_wrap=True)
_PREFERENCE = typer.Option(
    help="a named preference of params.yaml, helpful=0.7,harmless=0.3, or an outcome: 'harmless>=0.2,maximize=helpful'",
    show_default=False,
)
Preference = Annotated[str, _PREFERENCE]
Method = Annotated[
    str | None,
    typer.Option(help="which soup of the run; by default that of `register.method`", show_default=False),
]
# Number of modules whose error is printed, worst first, and of tensors that are listed.
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
    console.print(escape(f"{out}: {' '.join(f'{coefficient:+g} * {path}' for path, coefficient in models)}"))
    if left_out:
        console.print(escape(f"left out, since loading computes them: {', '.join(left_out[:SHOWN])}"))
        if len(left_out) > SHOWN:
            console.print(f"and {len(left_out) - SHOWN} more, which README.md lists")


@commands.command()
def soup(
    out: Annotated[Path, typer.Option(help="folder to write; must not exist")],
    file: Annotated[
        Path | None,
        typer.Argument(help="a soup file (soup.yaml) with your own adapters, in place of --base", show_default=False),
    ] = None,
    preference: Annotated[str | None, _PREFERENCE] = None,
    base: Annotated[
        Path | None, typer.Option(help="the model of your own adapters: a Transformers folder", show_default=False)
    ] = None,
    adapter: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=DIR", help="a LoRA adapter of that model; may be repeated", show_default=False),
    ] = None,
    weight: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=WEIGHT,...",
            help="the adapters' weights, such as calm=1.4,bold=-0.4, or a preset of the soup file",
            show_default=False,
        ),
    ] = None,
    full: Annotated[bool, typer.Option("--full/--adapter-only", help="write a whole model, or a PEFT adapter")] = False,
    method: Method = None,
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
    """Mix the policies of a run for a preference, or your own LoRA adapters by weights; exact unless compressed.

    Example: bonesoup soup --preference helpful=0.7,harmless=0.3 --full --out soups/mine

    Example: bonesoup soup --base MODEL --adapter calm=DIR --adapter bold=DIR --weight calm=1.4,bold=-0.4 --out mixed
    """
    adapters = pairs(adapter, "--adapter", "calm=adapters/calm")
    if file and (base or adapters):
        raise typer.BadParameter("the soup file says which adapters are mixed: give no --base and no --adapter")
    if file and bool(preference) == bool(weight):
        raise typer.BadParameter("a soup file needs --weight, or --preference if it has rows")
    if not file and bool(preference) == bool(base or adapters or weight):
        raise typer.BadParameter("give --preference, or --base with --adapter and --weight")
    if not file and not preference and not (base and adapters and weight):
        raise typer.BadParameter("your own adapters need --base, --adapter and --weight")
    if full and not (rank is None and max_error is None):
        raise ValueError("--rank and --max-error compress an adapter; with --full there is none")
    if out.exists():
        raise ValueError(f"{out} exists already: choose another folder, or remove it")
    if file:
        base, mixed, coefficients = _from_file(file, preference, weight)
    elif preference:
        settings = params.load()
        method = method or settings.register_.method
        asked_for = weights_of(settings, preference, method)
        chosen = recipe(method)
        from bonesoup.generation.soup import merge_adapters

        mixed, values = merge_adapters(chosen, asked_for)
        base = chosen.base
        coefficients = {policy.slot: float(value) for policy, value in zip(chosen.policies, values, strict=True)}
    else:
        from bonesoup.weights.mixing import mix

        coefficients = _weights(weight)
        mixed = mix(base, adapters, coefficients)
    console.print(f"{out}: {', '.join(f'{name} {value:+.4f}' for name, value in coefficients.items())}")
    _write(mixed, base, out, full, rank, max_error, coefficients, preference)


def _from_file(file: Path, preference: str | None, weight: list[str] | None) -> tuple:
    """Mix the adapters of a soup file; return its base, the mixed adapter, and {adapter: coefficient}."""
    from bonesoup.generation import soup_file
    from bonesoup.method.preferences import parse_weights, preference_faults
    from bonesoup.weights.mixing import mix

    read = soup_file.read(file)
    if preference is None:
        chosen = read.mixtures[weight[0]] if len(weight) == 1 and weight[0] in read.mixtures else _weights(weight)
        coefficients = dict.fromkeys(read.adapters, 0.0) | chosen
    else:
        if not read.rows:
            raise ValueError(f"{file} has no rows, which say what a preference means: give --weight")
        known = read.preferences
        chosen = known[preference] if preference in known else parse_weights(preference, sorted(known))
        if faults := preference_faults(chosen, list(read.soup.objectives)):
            raise ValueError(f"preference {preference}: {'; '.join(faults)}")
        values = read.soup.coefficients([chosen[name] for name in read.soup.objectives])
        coefficients = dict(zip(read.adapters, values.tolist(), strict=True))
    return read.base, mix(read.base, read.adapters, coefficients), coefficients


def _write(
    mixed, base: Path, out: Path, full: bool, rank: int | None, max_error: float | None, coefficients, preference
) -> None:
    """Write a mixed adapter as a whole model or as a PEFT folder, compressed if that is asked for."""
    from bonesoup.weights.adapter_files import save
    from bonesoup.weights.adapters import compress
    from bonesoup.weights.card import adapter_card
    from bonesoup.weights.fold import fold

    if full:
        fold(base, mixed, out)
        return
    errors = None
    if not (rank is None and max_error is None):
        mixed, errors = compress(mixed, rank, max_error)
    save(mixed, out, str(base), adapter_card(str(base), coefficients, errors, preference))
    ranks = sorted({len(a) for a, _ in mixed.tensors.values()})
    console.print(f"rank {ranks[0]} to {ranks[-1]}" if len(ranks) > 1 else f"rank {ranks[0]}")
    if errors:
        worst = sorted(errors.items(), key=lambda item: -item[1])[:SHOWN]
        console.print("relative error: " + ", ".join(f"{module} {error:.2%}" for module, error in worst))


def weights_of(settings: Settings, preference: str, method: str) -> list[float]:
    """Read a preference as weights in the order of the objectives; solve an outcome on the method's measured front.

    Raises:
        ValueError: neither a name, nor weights, nor an outcome that can be promised.
    """
    from bonesoup.evaluation.outcomes import is_outcome, read_outcome, solve
    from bonesoup.files import read_json
    from bonesoup.paths import MEASURED

    if preference in settings.preferences or not is_outcome(preference):
        return settings.preference(preference)
    outcome = read_outcome(preference, settings.objectives)
    if not MEASURED.is_file():
        raise ValueError(f"{MEASURED} does not exist: an outcome needs a measured front, `bonesoup run` makes it")
    promise = solve(outcome, read_json(MEASURED), method)
    # Standard output is for answers.
    typer.echo(promise.text, err=True)
    return list(promise.preference.values())


def recipe(method: str):
    """Return the soup of a method from this project's run.

    Raises:
        ValueError: there is none.
    """
    from bonesoup.paths import SOUPS

    path = SOUPS / f"{method}.json"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in SOUPS.glob("*.json"))) or "none yet: `bonesoup run` makes them"
        raise ValueError(f"no soup {method!r} in {SOUPS}; there are: {known}")
    # Imported after the cheap checks, since it brings in torch.
    from bonesoup.generation.soup import Soup

    return Soup.read(path)


def named(text: str, option: str, example: str) -> tuple[str, str]:
    """Split NAME=VALUE.

    Raises:
        typer.BadParameter: naming the option, if either is missing.
    """
    name, _, value = text.partition("=")
    if not name.strip() or not value.strip():
        raise typer.BadParameter(f"{option} is {text!r}, expected a name and a value such as {example}")
    return name.strip(), value.strip()


def pairs(texts: list[str] | None, option: str, example: str) -> dict[str, str]:
    """Split several NAME=VALUE.

    Raises:
        typer.BadParameter: naming the option, if a part is missing or a name comes twice.
    """
    split: dict[str, str] = {}
    for name, value in (named(text, option, example) for text in texts or []):
        if name in split:
            raise typer.BadParameter(f"{option} names {name} twice")
        split[name] = value
    return split


def _weights(texts: list[str]) -> dict[str, float]:
    weights = {}
    for name, value in pairs([part for text in texts for part in text.split(",")], "--weight", "calm=1.4").items():
        try:
            weights[name] = float(value)
        except ValueError:
            raise typer.BadParameter(f"the weight of {name} is {value!r}, expected a number") from None
    return weights


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
    """Show bytes and time left in a bar on standard error, if that is a terminal."""
    errors = Console(stderr=True)
    if not errors.is_terminal:
        yield None
        return
    columns = (TextColumn(what), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
