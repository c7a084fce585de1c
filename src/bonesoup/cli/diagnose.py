"""`bonesoup diagnose`: predict whether backbones are worth training."""

import os
import time
from pathlib import Path
from typing import Annotated

import typer

from bonesoup.cli.terminal import console, print_tables
from bonesoup.settings import params

commands = typer.Typer()


@commands.command()
def diagnose(
    samples: Annotated[int, typer.Option(help="number of validation prompts", min=2)] = 256,
    out: Annotated[Path, typer.Option(help="file to write the whole diagnosis to")] = Path("var/diagnosis.json"),
) -> None:
    """Predict from the specialists alone whether Bone Soup will beat Rewarded Soup, before backbones are trained.

    Example: bonesoup diagnose --samples 512
    """
    from bonesoup.workspace import graph, repro

    settings = params.load()
    started = time.monotonic()
    os.environ.update(repro.computing(settings))
    import torch

    from bonesoup.cli import show
    from bonesoup.diagnose.findings import diagnose
    from bonesoup.diagnose.measure import correlation, measure, rows, specialists
    from bonesoup.files import write_json

    stages = sorted({f"policy@{specialist.path.parent.name}" for specialist in specialists(settings)})
    if stale := graph.status(Path.cwd(), stages):
        raise ValueError(
            f"the specialists are not those of the present settings, code and data ({', '.join(stale)} would run): "
            f"first `bonesoup run {' '.join(stages)}`"
        )
    torch.set_num_threads(settings.threads)
    sampled, steps = measure(settings, samples)
    findings = diagnose(settings, sampled, rows(settings), correlation(), steps)
    write_json(out, findings)
    print_tables(show.diagnosis(findings))
    console.print(f"{out} holds the whole diagnosis ({time.monotonic() - started:.0f} s)", style="dim")
