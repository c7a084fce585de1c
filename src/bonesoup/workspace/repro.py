"""Run `dvc repro` in a subprocess: the whole pipeline, or one stage of it."""

import contextlib
import json
import os
import re
import resource
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from bonesoup.paths import TIMES
from bonesoup.settings.schema import FunctionReward, PretrainedReward, Settings
from bonesoup.workspace.declared import stages

RUNNING = re.compile(r"^Running stage '(.+)':")
SKIPPED = re.compile(r"^Stage '(.+)' (didn't change, skipping|is cached - skipping run.*)$")
# DVC's advice to people who call it directly.
NOISE = re.compile(
    r"^(> bonesoup stage|(Generating|Updating) lock file|To track the changes with git|\s+git add|"
    r"To enable auto staging|\s+dvc config core\.autostage|Use `dvc push`)"
)
ERROR = re.compile(r"^(bonesoup: |ERROR: )")
# DVC's last line after a stage that has already printed its error.
EPILOGUE = re.compile(r"^ERROR: failed to reproduce '.+': failed to run: .+, exited with \d+$")
SKIPS = {"unchanged": "unchanged", "restored": "restored from the cache"}
# DVC's errors when another command uses a path or holds the repository's lock.
BUSY = re.compile(r"is busy, it is being blocked by|Unable to acquire lock|cannot perform the command because")
# Run in the new process: a preexec_fn is not safe in a process with threads, such as a flow.
BOUND_DVC = (
    "import sys; from bonesoup.locks import die_with_parent; die_with_parent(); "
    "from dvc.cli import main; sys.exit(main(sys.argv[1:]))"
)


def environment() -> dict[str, str]:
    """Return the environment of every subprocess: this interpreter's tools first, and no telemetry."""
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


def computing(settings: Settings) -> dict[str, str]:
    """Return the variables to set before torch is imported: threads, and no Hub access unless a setting needs it."""
    threads = {"OMP_NUM_THREADS": str(settings.threads), "MKL_NUM_THREADS": str(settings.threads)}
    remote = [settings.data.hub, settings.model.revision]
    remote += [getattr(reward, "revision", None) for reward in settings.rewards.values()]
    return threads if any(remote) else threads | {"HF_HUB_OFFLINE": "1"}


def dvc(root: Path, *arguments: str) -> str:
    """Run a dvc command in `root` and return its standard output.

    Raises:
        RuntimeError: it failed; quotes DVC's output.
    """
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=root,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")] or [done.stderr.strip()]
        command = next(argument for argument in arguments if not argument.startswith("-"))
        raise RuntimeError(f"dvc {command} failed in {root}: " + "\n".join(errors).replace("ERROR: ", ""))
    return done.stdout


def check_targets(targets: list[str], names: list[str]) -> None:
    """Check that every target is a stage or a group of stages.

    Raises:
        ValueError: a target is neither.
    """
    known = {*names, *(name.split("@")[0] for name in names)}
    if unknown := [target for target in targets if target not in known]:
        raise ValueError(f"no stage {', '.join(map(repr, unknown))}; there are: {', '.join(names)}")


def inputs(settings: Settings) -> dict[str, str]:
    """Map settings to the input files they name, those that no stage makes."""
    named = {"data.path": settings.data.path}
    for name, reward in settings.rewards.items():
        if isinstance(reward, FunctionReward | PretrainedReward) and not reward.source.startswith("out/"):
            named[f"rewards.{name}.source"] = reward.source
    return named


def check_inputs(settings: Settings) -> None:
    """Check that the files named in settings exist; DVC would only say "missing data 'source'".

    Raises:
        ValueError: a file that a setting names does not exist.
    """
    named = inputs(settings)
    if settings.hardware.accelerate:
        named["hardware.accelerate"] = settings.hardware.accelerate
    if faults := [f"{key}: {path}: no such file" for key, path in named.items() if not Path(path).exists()]:
        listing = "\n".join(f"  - {fault}" for fault in faults)
        raise ValueError(
            f"params.yaml names files that do not exist:\n{listing}\nPut them there or change the settings."
        )


def reproduce(targets: list[str], echo: Callable[[str], None]) -> None:
    """Run `dvc repro`, and pass on its output with a heading for each stage.

    Raises:
        RuntimeError: a stage or DVC itself failed; its message.
        ValueError: a target is not a stage.
    """
    names = [name for stage in stages(Path(".")).values() for name in stage.names]
    check_targets(targets, names)
    total, seen, started = len(names), 0, time.monotonic()
    process = start_dvc(["repro", *targets], Path("."), environment())
    try:
        for kind, text in follow(process):
            if kind == "ran":
                seen += 1
                echo(f"[bold][{seen}/{total}] {text}[/bold]  ({time.monotonic() - started:.0f} s so far)")
            elif kind in SKIPS:
                seen += 1
                echo(f"[dim][{seen}/{total}] {text}: {SKIPS[kind]}[/dim]")
            else:
                echo(escape(text))
    except KeyboardInterrupt:
        # The terminal has sent the signal to DVC and the stage too: wait for both to end, and drop their last output.
        process.communicate()
        raise


def failure(stage: str | None, lines: list[str]) -> str:
    """Condense the output of a failed stage and of DVC into one message."""
    kept = [line for line in lines if line and not EPILOGUE.match(line)]
    text = "\n".join(kept or lines).replace("bonesoup: ", "", 1).replace("ERROR: ", "", 1)
    where = f"stage {stage} failed: " if stage and not text.startswith(f"{stage} failed") else ""
    return f"{where}{text}\nFinished stages are kept: the same command goes on from here."


def start_dvc(arguments: list[str], root: Path, variables: dict[str, str]) -> subprocess.Popen:
    """Start a dvc command that ends with this process, even by kill -9, so that no pipeline is left behind."""
    return subprocess.Popen(
        [sys.executable, "-c", BOUND_DVC, *arguments],
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=variables,
    )


class Busy(RuntimeError):
    """Another DVC command holds what this one needs; trying again may help."""


def follow(process: subprocess.Popen, stage: str | None = None) -> Iterator[tuple[str, str]]:
    """Follow `dvc repro` to its end: yield ("ran" | "unchanged" | "restored", stage) or ("said", line).

    "ran" comes when a stage starts. Everything after the first error belongs to its message.

    Args:
        stage: the stage it runs, if it is only one.

    Raises:
        Busy: the repository's lock, or a file of a stage, is held by another command.
        RuntimeError: a stage or DVC itself failed; its message.
    """
    errors, last = [], deque(maxlen=20)
    for line in process.stdout:
        line = line.rstrip("\n")
        if match := RUNNING.match(line):
            stage = match[1]
            yield "ran", stage
        elif match := SKIPPED.match(line):
            yield "unchanged" if match[2].startswith("didn't") else "restored", match[1]
        elif errors or ERROR.match(line):
            errors.append(line)
        elif line and not NOISE.match(line):
            last.append(line)
            yield "said", line
    status = process.wait()
    if status < 0:
        errors = errors or [f"ended by signal {-status}: was it killed for memory?"]
    if status:
        message = failure(stage, errors or list(last))
        raise (Busy if BUSY.search(message) else RuntimeError)(message)


def reproduce_one(
    stage: str,
    root: Path,
    variables: dict[str, str],
    echo: Callable[[str], None],
    begun: Callable[[], None] = lambda: None,
) -> str:
    """Run one stage by `dvc repro --single-item`: return "ran", "restored" (from the run cache) or "unchanged".

    Args:
        root: the project's folder.
        variables: environment of the stage.
        echo: called with each line as it is printed.
        begun: called when the stage starts, if it is not skipped.

    Errors are those of `follow`.
    """
    outcome = "unchanged"
    for kind, text in follow(start_dvc(["--wait-for-lock", "repro", "--single-item", stage], root, variables), stage):
        if kind == "said":
            echo(text)
        else:
            outcome = kind
            if kind == "ran":
                begun()
    return outcome


def escape(line: str) -> str:
    return line.replace("[", r"\[")


def record(stage: str, started: float) -> str:
    """Append wall time, CPU time and peak memory of this process to var/stages.jsonl; return them as a line."""
    seconds = time.monotonic() - started
    used = resource.getrusage(resource.RUSAGE_SELF)
    peak = used.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    row = {"stage": stage, "seconds": round(seconds, 2), "cpu": round(used.ru_utime + used.ru_stime, 2)}
    # Its results are written: a full disk is no reason to make them again.
    with contextlib.suppress(OSError):
        TIMES.parent.mkdir(parents=True, exist_ok=True)
        with open(TIMES, "a") as out:
            out.write(json.dumps(row | {"peak_mb": round(peak)}) + "\n")
    return f"{stage}: {seconds:.1f} s, peak memory {peak:.0f} MB"


def times(path: Path = TIMES) -> dict[str, dict]:
    """Map each stage to what `record` last appended to a file of times; lines that were cut short are passed over."""
    last: dict[str, dict] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []:
        with contextlib.suppress(json.JSONDecodeError):
            row = json.loads(line)
            last[row["stage"]] = row
    return last
