"""Real `mlflow ...` processes on loopback, for the tests that need one."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

MLFLOW = Path(sys.executable).with_name("mlflow")


@contextmanager
def serving(arguments: list, port: int, folder: Path, path: str, **environment):
    """Run an `mlflow ...` process that answers on `path`: (URL, process); it is stopped with its children."""
    log = folder / f"server-{port}.log"
    # `mlflow models serve` finds uvicorn by PATH.
    variables = os.environ | {"PATH": f"{MLFLOW.parent}{os.pathsep}{os.environ['PATH']}"}
    variables |= {"MLFLOW_DISABLE_TELEMETRY": "true", "OMP_NUM_THREADS": "1"} | environment
    command = [str(MLFLOW), *map(str, arguments), "--host", "127.0.0.1", "--port", str(port)]
    with open(log, "w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=variables, cwd=folder, start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"the server did not come up:\n{log.read_text()[-3000:]}")
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}", process
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(15)


def tracking(port: int, folder: Path):
    """Run a tracking server whose database and artifacts lie in `folder`."""
    arguments = ["server", "--backend-store-uri", f"sqlite:///{folder}/server.db"]
    arguments += ["--artifacts-destination", folder / "artifacts", "--serve-artifacts", "--workers", "1"]
    return serving(arguments, port, folder, "/health", MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false")
