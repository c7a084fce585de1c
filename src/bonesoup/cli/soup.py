"""`bonesoup soup`: mix the policies of a run, or people's own adapters."""

from pathlib import Path
from typing import Annotated

import typer

from bonesoup.cli import options
from bonesoup.cli.terminal import console
from bonesoup.settings import params

commands = typer.Typer()
# Number of modules whose error is printed, worst first.
SHOWN = 5


@commands.command()
def soup(
    out: Annotated[Path, typer.Option(help="folder to write; must not exist")],
    file: Annotated[
        Path | None,
        typer.Argument(help="a soup file (soup.yaml) with your own adapters, in place of --base", show_default=False),
    ] = None,
    preference: Annotated[str | None, options.PREFERENCE] = None,
    base: options.Base = None,
    adapter: options.Adapters = None,
    weight: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=WEIGHT,...",
            help="the adapters' weights, such as calm=1.4,bold=-0.4, or a preset of the soup file",
            show_default=False,
        ),
    ] = None,
    full: Annotated[bool, typer.Option("--full/--adapter-only", help="write a whole model, or a PEFT adapter")] = False,
    method: options.Method = None,
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
    adapters = options.pairs(adapter, "--adapter", "calm=adapters/calm")
    if file and (base or adapters):
        raise typer.BadParameter("the soup file says which adapters are mixed: give no --base and no --adapter")
    if file and bool(preference) == bool(weight):
        raise typer.BadParameter("a soup file needs --weight, or --preference if it has rows")
    if not file and bool(preference) == bool(base or adapters or weight):
        raise typer.BadParameter("give --preference, or --base with --adapter and --weight")
    if not file and not preference and not (base and adapters and weight):
        raise typer.BadParameter("your own adapters need --base, --adapter and --weight")
    if method and (file or not preference):
        raise typer.BadParameter("--method chooses a soup of a run: it goes with --preference alone")
    if full and not (rank is None and max_error is None):
        raise ValueError("--rank and --max-error compress an adapter; with --full there is none")
    if out.exists():
        raise ValueError(f"{out} exists already: choose another folder, or remove it")
    if file:
        base, mixed, coefficients = _from_file(file, preference, weight)
    elif preference:
        settings = params.load()
        asked_for = options.weights_of(settings, preference, method)
        chosen = options.soup_of(settings, method)
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


def _weights(texts: list[str]) -> dict[str, float]:
    weights = {}
    for name, value in options.pairs(
        [part for text in texts for part in text.split(",")], "--weight", "calm=1.4"
    ).items():
        try:
            weights[name] = float(value)
        except ValueError:
            raise typer.BadParameter(f"the weight of {name} is {value!r}, expected a number") from None
    return weights
