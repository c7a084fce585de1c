"""Lock files so that the kernel drops a lock when its holder dies, and end a process when its parent ends."""

import contextlib
import ctypes
import fcntl
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

PR_SET_PDEATHSIG = 1


@contextmanager
def exclusive(path: Path, wait: float = 3600.0) -> Iterator[None]:
    """Hold an exclusive lock on `path` (a file, made if absent); wait up to `wait` seconds for another holder.

    Raises:
        TimeoutError: another process held it all that time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + wait
    with open(path, "a+") as handle:
        announced = False
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                handle.seek(0)
                holder = handle.read().strip() or "unknown"
            if time.monotonic() > deadline:
                raise TimeoutError(f"{path} is held by process {holder}: wait for it to finish, or stop it")
            if not announced:
                print(f"waiting for process {holder}, which holds {path}", flush=True)
                announced = True
            time.sleep(0.2)
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield


def die_with_parent() -> None:
    """Make this process end when the one that started it ends, even by kill -9.

    DVC starts a stage through a shell and leaves it running when killed; a second `dvc repro` would then train at the
    same time. On Linux the kernel sends SIGKILL; elsewhere a thread looks every second. Most shells replace themselves
    with the one command they are given; behind one that does not, a thread looks for DVC itself.
    """
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    else:
        _watch(os.getppid, parent)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
    with contextlib.suppress(psutil.Error):
        shell = psutil.Process(parent)
        if (starter := shell.parent()) and any("dvc" in word for word in starter.cmdline()):
            _watch(shell.ppid, starter.pid)


def _watch(ancestor: Callable[[], int], expected: int) -> None:
    """End this process, from a thread, once `ancestor` no longer returns `expected`."""

    def look() -> None:
        with contextlib.suppress(psutil.Error):
            while ancestor() == expected:
                time.sleep(1)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=look, daemon=True).start()
