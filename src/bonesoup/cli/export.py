"""`bonesoup export`: a soup for the engine that people run."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from bonesoup.cli import options
from bonesoup.cli.terminal import console
from bonesoup.settings import params

commands = typer.Typer()


class Engine(StrEnum):
    vllm = "vllm"
    llama_cpp = "llama.cpp"
    peft = "peft"


@commands.command()
def export(
    engine: Annotated[Engine, typer.Option("--for", metavar="ENGINE", help="vllm, llama.cpp or peft")],
    out: Annotated[Path, typer.Option(help="folder to write; must not exist")],
    file: Annotated[
        Path | None,
        typer.Argument(help="a soup file (soup.yaml); by default the run in this folder", show_default=False),
    ] = None,
    base: options.Base = None,
    adapter: options.Adapters = None,
    method: options.Method = None,
) -> None:
    """Write a soup for another engine, with a README.md that holds the exact request for a preference there.

    Example: bonesoup export --for llama.cpp --out soups/llama.cpp

    Example: bonesoup export --for vllm --out exported soup.yaml
    """
    named = options.pairs(adapter, "--adapter", "calm=adapters/calm")
    if bool(base) != bool(named) or (base and file):
        raise typer.BadParameter("give a soup file, or --base with --adapter, or nothing for the run in this folder")
    if method and (base or file):
        raise typer.BadParameter("--method chooses a soup of a run: give no soup file and no --base with it")
    if out.exists():
        raise ValueError(f"{out} exists already: choose another folder, or remove it")
    from bonesoup.export import layout, llama_cpp, peft, vllm
    from bonesoup.files import appearing
    from bonesoup.generation import soup_file

    if file:
        recipe = layout.of_file(soup_file.read(file), f"the soup file {file}")
    elif base:
        raw = {"name": base.absolute().name, "base": base, "adapters": named}
        recipe = layout.of_file(soup_file.check(raw, "--base and --adapter"), f"adapters on {base}")
    else:
        settings = params.load()
        soup = options.soup_of(settings, method)
        recipe = layout.Recipe(soup, settings.preferences, {}, f"the soup {soup.method} of a run")
    with appearing(out) as temporary:
        temporary.mkdir()
        if engine == Engine.vllm:
            vllm.write(recipe, temporary)
        elif engine == Engine.peft:
            peft.write(layout.lay_out(recipe), temporary)
        else:
            llama_cpp.write(layout.lay_out(recipe), temporary)
    console.print(f"{out}: README.md shows how to ask {engine.value} for a preference")
