"""Measure what orchestration costs on a pipeline that has run: whole processes, interleaved, medians.

    python bench/operations.py

Starts its own Prefect server on loopback. Bounds: 3 s for a no-op `dvc repro`, 6 s more for a no-op train-soup, 0.3 s
for `bonesoup --help`.
"""

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

from bonesoup.workspace.repro import environment

FLOW = "from flows.train_soup import train_soup; train_soup()"
COMMANDS = {
    "dvc repro": [sys.executable, "-m", "dvc", "repro"],
    "train-soup": [sys.executable, "-c", FLOW],
    "bonesoup --help": [str(Path(sys.executable).with_name("bonesoup")), "--help"],
}
ROUNDS = 5


def timed(command: list[str], variables: dict[str, str]) -> float:
    started = time.monotonic()
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return time.monotonic() - started


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    with socket.socket() as free, tempfile.TemporaryDirectory() as home:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        variables = environment() | {"PREFECT_HOME": home, "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
        serve = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port), "--no-ui"]
        server = subprocess.Popen(serve, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        api = f"http://127.0.0.1:{port}/api"
        try:
            while True:
                try:
                    httpx.get(f"{api}/health", timeout=2).raise_for_status()
                    break
                except httpx.HTTPError:
                    time.sleep(0.5)
            variables |= {"PREFECT_API_URL": api}
            # Once each: what is due runs now, and caches of the disk are warm.
            for command in COMMANDS.values():
                timed(command, variables)
            seconds = {name: [] for name in COMMANDS}
            for _ in range(ROUNDS):
                for name, command in COMMANDS.items():
                    seconds[name].append(timed(command, variables))
        finally:
            server.terminate()
            server.wait()
    for name, values in seconds.items():
        print(f"{name:16} {statistics.median(values):.2f} s  ({min(values):.2f} to {max(values):.2f}, {ROUNDS} rounds)")
    extra = statistics.median(t - r for t, r in zip(seconds["train-soup"], seconds["dvc repro"], strict=True))
    print(f"train-soup takes {extra:.2f} s more than dvc repro; {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
