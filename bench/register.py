"""Measure how long registering the finished run in out/ in a new store takes, without imports and store set-up.

    python bench/register.py

Prints the seconds of each version and, for the steerable soup, its share of the 5 s allowed. Leaves nothing behind.
"""

import os
import re
import tempfile
import time
from pathlib import Path

from bonesoup.registry.register import register_all
from bonesoup.registry.store import connect
from bonesoup.settings import params

ALLOWED = 5.0
REGISTERED = re.compile(r"^(?P<name>\S+): version \d+ registered \((?P<seconds>[\d.]+) s\)$")


def main() -> None:
    settings = params.load()
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
        root = Path(".")
        # Makes the database; a new one takes several seconds once.
        connect(root, settings.register_.name)
        start = time.monotonic()
        named = (settings.register_, settings.preferences)
        register_all(root, params.PARAMS.read_text(), *named, lines.append)
        total = time.monotonic() - start
    timings = {match["name"]: float(match["seconds"]) for line in lines if (match := REGISTERED.match(line))}
    soup = f"{settings.register_.name}-soup"
    if soup not in timings:
        raise SystemExit("out/ holds no finished soup: `bonesoup run` makes one")
    for name, seconds in timings.items():
        print(f"{name:32} {seconds:5.1f} s")
    print(f"{'all runs and versions':32} {total:5.1f} s")
    print(f"the soup takes {timings[soup]:.1f} s of {ALLOWED:.0f} s: {timings[soup] / ALLOWED:.2f}")
    if timings[soup] > ALLOWED:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
