"""One worker at a time: a lock that the kernel drops when its holder dies, and a worker that dies with its parent."""

import ctypes
import fcntl
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PR_SET_PDEATHSIG = 1


@contextmanager
def exclusive(path: Path, wait: float = 3600.0) -> Iterator[None]:
    """Hold an exclusive lock on `path` (a file, made if absent); wait up to `wait` seconds for another holder.

    Raises:
        TimeoutError: somebody else held it all that time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + wait
    with open(path, "a+") as handle:
        told = False
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                handle.seek(0)
                holder = handle.read().strip() or "unknown"
            if time.monotonic() > deadline:
                raise TimeoutError(f"{path} is held by process {holder}: wait for it to finish, or stop it")
            if not told:
                print(f"waiting for process {holder}, which holds {path}", flush=True)
                told = True
            time.sleep(0.2)
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield


def die_with_parent() -> None:
    """Make this process end when the one that started it ends, also by kill -9.

    DVC starts a stage through a shell and leaves it running when killed; a second `dvc repro` would then train
    beside it. On Linux the kernel sends SIGKILL; elsewhere a thread looks every second.
    """
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    else:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGKILL)
