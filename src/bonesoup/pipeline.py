"""`bonesoup run`: dvc repro in a subprocess, its stages counted, timed and shown as they go."""

import json
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

RUNNING = re.compile(r"^Running stage '(.+)':")
SKIPPED = re.compile(r"^Stage '(.+)' (didn't change, skipping|is cached - skipping run.*)$")
TIMES = Path("var/stages.jsonl")


def environment() -> dict[str, str]:
    """The environment of every subprocess: this interpreter's tools first, and nothing that phones home."""
    quiet = {
        "DO_NOT_TRACK": "true",
        "DVC_NO_ANALYTICS": "1",
        "GX_ANALYTICS_ENABLED": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
        "TRL_EXPERIMENTAL_SILENCE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
        "PYTHONWARNINGS": "ignore::FutureWarning,ignore::DeprecationWarning,ignore::UserWarning",
    }
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return os.environ | quiet | {"PATH": path}


def stage_count() -> int:
    """Stages in dvc.yaml with foreach groups expanded."""
    listing = subprocess.run(
        [sys.executable, "-m", "dvc", "stage", "list", "--name-only", "--quiet"],
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )
    return len(listing.stdout.split())


def reproduce(targets: list[str], echo: Callable[[str], None]) -> int:
    """Run dvc repro, passing its output on with a heading per stage.

    Returns:
        0, or 1 where a stage failed (DVC itself says 255).
    """
    total, seen, started = stage_count(), 0, time.monotonic()
    command = [sys.executable, "-m", "dvc", "repro", *targets]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment()
    )
    try:
        for line in process.stdout:
            line = line.rstrip("\n")
            if match := RUNNING.match(line):
                seen += 1
                echo(f"[bold][{seen}/{total}] {match[1]}[/bold]  ({time.monotonic() - started:.0f} s so far)")
            elif match := SKIPPED.match(line):
                seen += 1
                echo(f"[dim][{seen}/{total}] {match[1]}: unchanged[/dim]")
            elif line and not line.startswith(("> bonesoup stage", "Generating lock file", "Updating lock file")):
                echo(escape(line))
        return min(process.wait(), 1)
    except KeyboardInterrupt:
        process.wait()
        raise


def escape(line: str) -> str:
    return line.replace("[", r"\[")


def record(stage: str, started: float) -> str:
    """Append wall time and peak memory of this process to var/stages.jsonl; returns them as a line."""
    seconds = time.monotonic() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    TIMES.parent.mkdir(exist_ok=True)
    with open(TIMES, "a") as out:
        out.write(json.dumps({"stage": stage, "seconds": round(seconds, 2), "peak_mb": round(peak)}) + "\n")
    return f"{stage}: {seconds:.1f} s, peak memory {peak:.0f} MB"
