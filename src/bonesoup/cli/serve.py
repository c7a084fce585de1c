"""`bonesoup serve`: a soup over HTTP."""

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from bonesoup.cli import options
from bonesoup.cli.terminal import console
from bonesoup.files import bytes_of
from bonesoup.settings import params

commands = typer.Typer()


@commands.command()
def serve(
    source: Annotated[
        str | None,
        typer.Argument(
            help="models:/NAME@champion, models:/NAME/3, a project, a version's files, or a soup file (soup.yaml); by "
            "default the project's champion or, if it has none, its own run",
            show_default=False,
        ),
    ] = None,
    base: Annotated[
        Path | None,
        typer.Option(help="serve your own adapters on this model: a Transformers folder", show_default=False),
    ] = None,
    adapter: options.Adapters = None,
    name: Annotated[
        str | None,
        typer.Option(help="with --base: the model's name for clients; by default the folder's", show_default=False),
    ] = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="serve the small soup that ships with bonesoup; its base is downloaded once")
    ] = False,
    host: Annotated[str, typer.Option(help="address to listen on; any but this machine's own needs a token")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="port to listen on; 0 takes a free one", min=0, max=65535)] = 8000,
    follow: Annotated[bool, typer.Option("--follow", help="switch to each new champion of the registry")] = False,
    token_file: Annotated[
        Path | None, typer.Option(help="file with the token clients must send; or set BONESOUP_TOKEN")
    ] = None,
    allowed_host: Annotated[
        list[str] | None, typer.Option(help="a name under which clients reach the server; may be repeated")
    ] = None,
    allowed_origin: Annotated[
        list[str] | None,
        typer.Option(
            help="a site whose pages may ask the server, such as https://chat.example.org, or *; may be repeated"
        ),
    ] = None,
    root_path: Annotated[str, typer.Option(help="path under which a proxy publishes the server, such as /soup")] = "",
    system: Annotated[
        Literal["fold", "refuse"],
        typer.Option(
            metavar="fold|refuse",
            help="system messages where the chat template has no place for them: into the user's turn, or 400",
        ),
    ] = "fold",
    overlong: Annotated[
        Literal["refuse", "cut"],
        typer.Option(
            metavar="refuse|cut",
            help="max_tokens that does not fit: refuse it, or cut it to what fits and say so in `note`",
        ),
    ] = "refuse",
    batch: Annotated[int, typer.Option(help="answers generated at once", min=1)] = 32,
    queue: Annotated[int, typer.Option(help="answers that may wait; further requests get 429", min=0)] = 256,
    timeout: Annotated[float, typer.Option(help="seconds an answer may take, including the wait", min=0.1)] = 120,
    max_prompt_tokens: Annotated[int, typer.Option(help="longest prompt, in tokens", min=1)] = 4096,
    max_new_tokens: Annotated[int, typer.Option(help="longest answer, in tokens", min=1)] = 2048,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1")] = "auto",
    threads: Annotated[
        int | None, typer.Option(help="CPU threads; by default the project's `threads`", min=1, show_default=False)
    ] = None,
    drain: Annotated[
        float, typer.Option(help="seconds that running answers get after SIGTERM; Docker kills after 10", min=1)
    ] = 8,
) -> None:
    """Serve a soup through OpenAI's API, with a preference in each request, and the mixing desk at /.

    Your own LoRA adapters are served in the same way, with a weight for each adapter in each request.

    Example: bonesoup serve

    Example: bonesoup serve --base MODEL --adapter calm=DIR --adapter bold=DIR
    """
    token = _token(token_file)
    pairs = options.pairs(adapter, "--adapter", "calm=adapters/calm")
    if bool(base) != bool(pairs) or (name and not base):
        raise typer.BadParameter("your own adapters need --base and --adapter; --name is for them alone")
    if base and (source or demo or follow):
        raise typer.BadParameter("--base and --adapter say what is served: give no source, no --demo and no --follow")
    threads = threads or (params.load().threads if params.PARAMS.is_file() else None)
    if threads:
        # Libraries below torch read this when they are imported.
        os.environ["OMP_NUM_THREADS"] = str(threads)
    from bonesoup.generation import soup_file
    from bonesoup.serving.engine import Limits
    from bonesoup.serving.live import Bounds
    from bonesoup.serving.server import Options
    from bonesoup.serving.server import serve as run

    limits = Limits(batch=batch, queue=queue, seconds=timeout)
    bounds = Bounds(max_prompt_tokens, max_new_tokens, overlong, system)
    root_path = root_path.rstrip("/") and f"/{root_path.strip('/')}"
    hosts, origins = tuple(allowed_host or ()), tuple(allowed_origin or ())
    chosen = Options(host, port, token, hosts, limits, bounds, device, drain, origins, root_path)
    adapters = None
    if base:
        raw = {"name": name or base.absolute().name, "base": base, "adapters": pairs}
        adapters = soup_file.check(raw, "--base and --adapter")
    run(chosen, source, follow, console.print, demo, adapters)


@commands.command("demo-pack")
def demo_pack(
    out: Annotated[
        Path | None, typer.Option(help="folder to write; by default in the package", show_default=False)
    ] = None,
) -> None:
    """Pack the soup of this folder's run for `bonesoup serve --demo`: adapters, front and card, without the base.

    Example: bonesoup demo-pack
    """
    from bonesoup.serving.demo import FOLDER, pack
    from bonesoup.serving.source import from_project

    settings = params.load()
    facts = pack(from_project(Path(".")), settings.model, out or FOLDER)
    size = bytes_of(out or FOLDER)
    console.print(f"{out or FOLDER}: {len(facts['files'])} files, {size / 1e6:.1f} MB, on {facts['model']['source']}")


def _token(file: Path | None) -> str | None:
    """Read the token, never from the command line, where other users of the machine can read it."""
    if file and not file.is_file():
        raise ValueError(f"{file} does not exist: it should hold the token")
    token = file.read_text() if file else os.environ.get("BONESOUP_TOKEN")
    if not file and not token:
        return None
    token = token.strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError(f"{file or 'BONESOUP_TOKEN'} must hold one token of printable ASCII characters without spaces")
    return token
