"""Define the command line. Heavy packages are imported inside the commands that need them."""

import errno
import importlib
import os
import re
import shutil
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bonesoup.cli import diagnose, export, merge, options, registry, serve, soup, study, upkeep
from bonesoup.cli.terminal import console, print_tables
from bonesoup.paths import SCRATCH
from bonesoup.settings import params

app = typer.Typer(
    help="Controllable multi-objective text generation by merging backbone policies.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
# The command as the user has to type it: a path if the environment is not activated.
COMMAND = "bonesoup" if shutil.which("bonesoup") else os.path.relpath(Path(sys.executable).with_name("bonesoup"))
INTERRUPTED = 130
# Errors of libraries in C and Rust (torch, safetensors, sqlite) on a full disk.
FULL = re.compile(
    r"No space left on device|os error 28|disk is full|PytorchStreamWriter failed writing|unexpected pos \d+ vs \d+"
)


@app.callback()
def root(debug: Annotated[bool, typer.Option(help="show the traceback of an error")] = False) -> None:
    from bonesoup.workspace.repro import environment

    os.environ.update(environment())
    # Those of libraries are for programmers.
    warnings.filterwarnings("ignore")
    if debug:
        os.environ["BONESOUP_DEBUG"] = "1"


@app.command()
def run(
    targets: Annotated[list[str] | None, typer.Argument(help="stages to run; all by default")] = None,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="stages to run at once; by default as many as cores, GPUs and memory allow"),
    ] = None,
) -> None:
    """Run the pipeline with live progress, then show the table of methods. The results are those of `dvc repro`.

    Example: bonesoup run --jobs 2
    """
    from bonesoup.workspace import declared, repro, schedule

    settings = params.load()
    declared.check_settings(Path("."))
    repro.check_inputs(settings)
    started = time.monotonic()
    devices = schedule.devices(settings, jobs)
    # Its lines are rich's markup.
    progress = Console(highlight=False, soft_wrap=True)
    if len(devices) == 1:
        repro.reproduce(targets or [], progress.print)
    else:
        with progress.status("") as status:
            schedule.reproduce(targets or [], devices, progress.print, status.update)
    console.print(f"Done in {time.monotonic() - started:.0f} s.")
    if not targets:
        summary()


@app.command()
def summary() -> None:
    """Print the last run's table of methods, the path of its report, and commands to try next.

    Example: bonesoup summary
    """
    from bonesoup.cli import show
    from bonesoup.files import read_json
    from bonesoup.paths import METRICS, REPORT

    path = METRICS / "report.json"
    if not path.is_file():
        raise ValueError(f"{path} does not exist: `bonesoup run` makes it")
    print_tables(show.report(read_json(path)), 110)
    settings = params.load()
    name = next(iter(settings.preferences), "NAME")
    known = settings.data.source == "embedded"
    prompt = "Please explain baking simply, thanks." if known else "Who wrote this?"
    console.print(f"Report: {(REPORT / 'index.html').absolute()}\n\nTry next:")
    console.print(f"  {COMMAND} generate --preference {name} --prompt '{prompt}'")
    console.print(f"  {COMMAND} serve")
    console.print(f"  {COMMAND} soup --preference {name} --full --out soups/{name}")
    console.print(f"  {COMMAND} profile embedded-3 && {COMMAND} run")


@app.command()
def stage(
    name: Annotated[str, typer.Argument(help="stage to run: prepare, sft, reward, ...")],
    key: Annotated[str | None, typer.Argument(help="objective, group or method of a foreach stage")] = None,
) -> None:
    """Run one stage. This is what dvc.yaml calls.

    Example: bonesoup stage policy backbones
    """
    from bonesoup.locks import die_with_parent, exclusive
    from bonesoup.workspace import repro

    die_with_parent()
    started = time.monotonic()
    settings = params.load()
    _check_stage(name, key)
    os.environ.update(repro.computing(settings))
    label = f"{name}@{key}" if key else name
    with exclusive(SCRATCH / f"{label}.lock"):
        module = importlib.import_module(f"bonesoup.stages.{name}")
        if torch := sys.modules.get("torch"):
            torch.set_num_threads(settings.threads)
        module.run(settings, key)
    console.print(repro.record(label, started), style="dim")


def _check_stage(name: str, key: str | None) -> None:
    """Refuse a stage or key that dvc.yaml does not have, as a usage error."""
    from bonesoup.workspace.declared import stages

    declared = stages(Path("."))
    if name not in declared:
        raise typer.BadParameter(f"no stage {name!r}: {', '.join(declared)}")
    keys = declared[name].keys
    if keys is None and key is not None:
        raise typer.BadParameter(f"stage {name} takes no key")
    if keys is not None and key not in keys:
        problem = f"has no key {key!r}" if key else "needs a key"
        raise typer.BadParameter(f"stage {name} {problem}: {', '.join(keys)}")


@app.command()
def profile(
    name: Annotated[str | None, typer.Argument(help="profile to write; without a name, list them")] = None,
    data: Annotated[str | None, typer.Option(help="data file to read instead of the profile's")] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="a single setting, such as rl.updates=60; may be repeated"),
    ] = None,
    pin: Annotated[bool, typer.Option("--pin", help="look up the newest commit of every Hub id without one")] = False,
    fill: Annotated[
        bool, typer.Option("--fill", help="only fill in what follows from the rest, and missing keys by their defaults")
    ] = False,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="print the memory and hours of a run; write nothing")
    ] = False,
) -> None:
    """Write a profile or single settings into params.yaml, or list the profiles.

    Settings with one possible value, such as the slots of `policies`, are filled in from the rest and named.

    Example: bonesoup profile qa-feedback --data dev_feedback.jsonl.gz
    """
    from bonesoup.settings import profiles

    settings = dict(map(profiles.parse_change, changes or []))
    if estimate:
        from bonesoup.settings.estimate import report

        console.print(report(profiles.draft(name, data, settings)))
        return
    if name is None and not (data or settings or pin or fill):
        for known in profiles.names():
            first = (profiles.PROFILES / f"{known}.yaml").read_text().splitlines()[0].lstrip("# ")
            console.print(f"{known:16} {first}")
        return
    filled = profiles.write(name, data, settings, pin=pin)
    if filled:
        console.print(f"Filled in: {', '.join(filled)}", style="dim")
    what = f"the profile {name}" if name else "the new values" if settings or data or pin else "all that it needs"
    console.print(f"params.yaml now holds {what}; `bonesoup run` runs it")


@app.command()
def generate(
    preference: options.Preference,
    prompt: Annotated[list[str], typer.Option(help="what the user says; may be repeated")],
    method: options.Method = None,
    seed: Annotated[int, typer.Option(help="seed of the sampling noise")] = 0,
) -> None:
    """Answer prompts at a preference.

    Example: bonesoup generate --preference careful --prompt 'Please explain baking'

    Example: bonesoup generate --preference 'harmless>=0.2,maximize=helpful' --prompt 'Please explain baking'
    """
    settings = params.load()
    asked_for = options.weights_of(settings, preference, method)
    recipe = options.soup_of(settings, method)
    from bonesoup.generation.soup import SoupModel
    from bonesoup.generation.sweep import sweep

    policy = SoupModel.load(recipe, settings.device)
    mixtures = policy.coefficients(asked_for)[None]
    messages = [[{"role": "user", "content": text}] for text in prompt]
    seeds = [seed * 1_000_003 + i for i in range(len(prompt))]
    limits = settings.generation
    asked = recipe.contexts([asked_for])
    for _, responses, _ in sweep(
        policy, mixtures, messages, seeds, limits.temperature, limits.max_new_tokens, 64, asked
    ):
        for response in responses:
            print(response.text)


@app.command()
def register() -> None:
    """Send runs, the steerable soup, its policies and merged models to MLflow. Nothing is sent twice.

    Example: MLFLOW_TRACKING_URI=http://127.0.0.1:5000 bonesoup register
    """
    settings = params.load()
    from bonesoup.stages.register import send

    # Not the stage: its out belongs to DVC, which compares it with what the stage wrote.
    send(settings)


app.add_typer(merge.commands)
app.add_typer(soup.commands)
app.add_typer(export.commands)
app.add_typer(registry.commands)
app.add_typer(serve.commands)
app.add_typer(study.commands)
app.add_typer(diagnose.commands)
app.add_typer(upkeep.commands)


def main() -> None:
    """Run the command line; print an error as one readable block on standard error, with exit status 1."""
    try:
        app()
    except SystemExit as end:
        # By now Typer has turned Ctrl-C into status 130.
        if end.code == INTERRUPTED:
            print(f"bonesoup: {explain(KeyboardInterrupt())}", file=sys.stderr)
        raise
    except Exception as error:
        if os.environ.get("BONESOUP_DEBUG"):
            traceback.print_exc()
        print(f"bonesoup: {explain(error)}", file=sys.stderr)
        sys.exit(1)


def explain(error: BaseException) -> str:
    """Write one message that says what happened and what to do."""
    text = str(error)
    if isinstance(error, KeyboardInterrupt):
        return "interrupted; run the same command again to resume"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT) or FULL.search(text):
        where = f" while writing {error.filename}" if getattr(error, "filename", None) else ""
        return f"the disk is full{where}. Free some space and run again: finished stages and checkpoints are kept"
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"this needs the package {error.name}: pip install 'bonesoup[train]' installs all that a project needs"
    if isinstance(error, ValueError | RuntimeError | OSError) and text:
        return text
    return f"unexpected {type(error).__name__}: {text}\n`bonesoup --debug ...` shows where it comes from"
